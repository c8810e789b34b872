"""`push`: upload a trained model with a page that says what it is, or write it to a folder."""

import copy
import dataclasses
import logging
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from setmatch.argument_types import checked
from setmatch.errors import ConfigError, counted
from setmatch.evaluation.results import Report
from setmatch.files.reading import read_text
from setmatch.files.writing import atomic_folder, require_folder
from setmatch.models.detector import Detector, require_weights
from setmatch.models.load import load, save
from setmatch.models.weights.card import CARD
from setmatch.models.weights.downloads import hub
from setmatch.models.weights.layouts.hub_folder import README
from setmatch.models.weights.terms import UNKNOWN
from setmatch.sharing.facts import DataCounts, Metrics, read_data_counts, read_metrics
from setmatch.sharing.license import choose_license
from setmatch.sharing.model_card import SharedModel, model_page
from setmatch.training.checkpoints.best import BEST, Run
from setmatch.training.checkpoints.checkpoint import CHECKPOINTS
from setmatch.training.run_folder import DATA_REPORT

log = logging.getLogger("setmatch")


@dataclass(frozen=True)
class Pushed:
    """A written model: its place, an address or a folder, and its files.

    `removed` are files that were there before and are not part of the model.
    """

    place: str
    files: tuple[str, ...]
    removed: tuple[str, ...] = ()


@dataclass(frozen=True)
class _Trained:
    """A detector, what is known of it, and the page that somebody has written for it."""

    detector: Detector
    metrics: Metrics | None = None
    data: DataCounts | None = None
    page: str | None = None


@checked
def push(
    model: Detector | Run | str | Path,
    name: str,
    *,
    license: str | None = None,
    dataset: str | None = None,
    metrics: Report | Mapping[str, Any] | str | Path | None = None,
    private: bool = False,
    replace: bool = False,
    out: str | Path | None = None,
    accept_license: str | None = None,
) -> Pushed:
    """Upload a trained model to the Hugging Face hub, where `load(name)` finds it.

    The repository `name`, owner/model, is created if it is not there. All files arrive in one
    commit: the weights, their card, and README.md with classes, data, metrics, preprocessing, use,
    limits and license. Who uploads is known by the hub's token (`hf auth login`, or HF_TOKEN).

    Parameters
    ----------
    model
        A detector, a run, or whatever `load` takes. A run brings its metrics and its data along. A
        folder that `out` wrote is uploaded with its README.md as it is, which you may have edited.
    name
        Your name or that of an organization, and that of the model, such as "anna/blood-cells".
    license
        License of the weights, such as "apache-2.0", if not that which they carry.
    dataset
        Name of the data set on the hub, owner/name.
    metrics
        What `evaluate` returned, or the JSON file that it wrote. Default: the metrics of the best
        weights of a run.
    private
        Whether a new repository is seen by you, or your organization, alone.
    replace
        Replace what is in the repository; without, only an empty one is written to. The hub keeps
        earlier commits.
    out
        A new folder to write instead. Nothing is uploaded, and no token is needed.
    accept_license
        Terms of weights that are not free for every use (see `load`).

    Raises
    ------
    ConfigError
        No such name, data set or license, no token or one that may not write there, a repository
        with other files, terms of the weights that do not let them be published, or a folder that
        exists.
    UnreachableError
        The hub cannot be reached.
    WeightsError
        The model cannot be loaded.
    """
    hub.require_hub_id(name)
    if dataset is not None:
        hub.require_dataset_id(dataset)
    if out is not None:
        _require_new(Path(out))
    else:
        hub.require_token()
    trained = _trained(model, accept_license)
    if trained.page is not None and (license, dataset, metrics) != (None, None, None):
        raise ConfigError(
            f"{model}: has a {README} of its own, which says license, data set and metrics; edit "
            "it there, or push the run that the folder was made from"
        )
    if metrics is not None:
        tree = metrics.to_json() if isinstance(metrics, Report) else metrics
        trained = dataclasses.replace(trained, metrics=read_metrics(tree))
    carried = trained.detector.card.license
    chosen = choose_license(carried, license, private)
    if chosen == UNKNOWN:
        log.warning("%s: no license is known or stated; name one (--license)", name)
    if out is not None:
        with atomic_folder(Path(out)) as folder:
            _write(folder, trained, name, chosen, dataset)
            return Pushed(str(out), _names(folder))
    with TemporaryDirectory(prefix="setmatch-push-") as workshop:
        folder = Path(workshop)
        _write(folder, trained, name, chosen, dataset)
        return _upload(folder, name, private, replace)


def _trained(model: Detector | Run | str | Path, accept_license: str | None) -> _Trained:
    path = Path(model) if isinstance(model, str | Path) else None
    if path is not None and any((path / each).is_dir() for each in (BEST, CHECKPOINTS)):
        model = Run(path)
    if isinstance(model, Run):
        best = model.best
        return _Trained(
            model.model,
            None if best is None else read_metrics(best),
            read_data_counts(model.folder / DATA_REPORT),
        )
    if path is not None:
        page = path / README if (path / CARD).is_file() else None
        written = read_text(page) if page is not None and page.is_file() else None
        return _Trained(load(path, accept_license=accept_license), page=written)
    require_weights(model, "push")
    assert not isinstance(model, str | Path), "they were loaded above"
    return _Trained(model)


def _write(folder: Path, trained: _Trained, name: str, license: str, dataset: str | None) -> None:
    """Write the files of a model into an empty folder."""
    card = trained.detector.card
    detector = copy.copy(trained.detector)  # the tensors are shared, the card is not
    detector.card = dataclasses.replace(card, license=license, source=_public(card.source))
    shared = SharedModel(
        name,
        detector.card,
        sum(each.numel() for each in detector.parameters()),
        detector.has_masks,
        card.license,
        dataset,
        trained.metrics,
        trained.data,
    )
    save(detector, folder)
    text = model_page(shared) if trained.page is None else trained.page
    (folder / README).write_text(text, encoding="utf-8")


def _upload(folder: Path, name: str, private: bool, replace: bool) -> Pushed:
    found = hub.find_repository(name)
    if found is None:
        found = hub.create_repository(name, private)
    if private and not found.is_private:
        raise ConfigError(
            f"{name}: exists and is public; make it private in its settings on the hub, or name "
            "another (nothing was uploaded)"
        )
    there = hub.others(found, [])
    if there and not replace:
        shown = ", ".join(there[:5]) + (f" and {len(there) - 5} more" if len(there) > 5 else "")
        raise ConfigError(
            f"{name}: has {counted(len(there), 'file')} ({shown}); name another, or replace them "
            "(--replace), which the hub keeps in its history (nothing was uploaded)"
        )
    files = _names(folder)
    address = hub.commit_folder(name, folder, found, f"Upload {name.partition('/')[2]}")
    return Pushed(address, files, tuple(hub.others(found, list(files))))


def _names(folder: Path) -> tuple[str, ...]:
    return tuple(sorted(path.name for path in folder.iterdir()))


def _public(source: str) -> str:
    """Return where weights are from without a path of this machine."""
    return Path(source).name if Path(source).is_absolute() or Path(source).exists() else source


def _require_new(folder: Path) -> None:
    require_folder(folder)
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise ConfigError(f"{folder}: exists already; name a new folder")
