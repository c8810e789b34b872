"""The survey as a whole: open what is there, count it, look for what is wrong, make a plan."""

import json
import shlex
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from rich.console import Console
from rich.progress import Progress

from setmatch.config import Recipe
from setmatch.data.audit.checks import Finding, findings_of, grouped, require_trainable
from setmatch.data.audit.image_checks import SAMPLE, NearDuplicate, Picture, alike, open_pictures
from setmatch.data.audit.recommend import PUBLISHED_QUERIES, TrainingPlan, recommend
from setmatch.data.audit.statistics import Facts, facts_of, objects_of
from setmatch.data.corrupt_files import PROBED, find_unreadable, sample
from setmatch.data.dataset import DetectionDataset
from setmatch.data.discovery import discover_splits
from setmatch.data.formats.base import WHOLE
from setmatch.data.open import has_split, open_dataset, require_split
from setmatch.data.splits import canonical
from setmatch.errors import DataError
from setmatch.files import atomic_file
from setmatch.structures.metadata import Preprocessing

_SPLITS = ("train", "val", "test")
_UNION = "trainval"  # of train and val, by the definition of VOC, so that sharing images is no leak
_RECIPE = "plan.yaml"
Timer = Callable[
    [Recipe, DetectionDataset], float
]  # a recipe on a training split -> seconds for a step


class UnfixableDataError(DataError):
    """A survey found what nobody but the owner of the data can mend."""

    exit_code = 1


@dataclass(frozen=True)
class DataAudit:
    """What is in a data set, what is wrong with it, and how to train on it.

    `facts` are those of every split, then those of all together where there are several. `opened`
    are the pictures that were looked at. There is no plan without a split to train on. `format` is
    the one that was asked for, `recipe` the file that has the plan's, if it was written.
    """

    data: Path
    splits: Mapping[str, DetectionDataset]
    opened: Mapping[str, Sequence[Picture]]
    facts: tuple[Facts, ...]
    findings: tuple[Finding, ...]
    near_duplicates: tuple[NearDuplicate, ...]
    plan: TrainingPlan | None
    seconds: float
    format: str | None = None
    recipe: Path | None = None

    @property
    def commands(self) -> tuple[str, ...]:
        """Return the command lines that follow the plan, to be copied as they are."""
        if self.plan is None:
            return ()
        train = self.plan.command(self.data, self.recipe or _RECIPE, self.format)
        if self.recipe is not None:
            return (train,)
        words = ["setmatch", "audit", str(self.data), "--recipe", _RECIPE]
        words += [] if self.format is None else ["--format", self.format]
        return shlex.join(words), train

    def require_sound(self) -> None:
        """Raise NeedsMending when something must be mended by hand."""
        if self.to_mend:
            raise UnfixableDataError(f"{self.data}: {self.to_mend}, see above")

    @property
    def to_mend(self) -> str:
        """Say how many things must be mended by hand; nothing where none must."""
        count = sum(finding.severity == "mend" for finding in self.findings)
        return f"{count:,} thing{'s' * (count != 1)} must be mended by hand" if count else ""

    @property
    def needs_mending(self) -> bool:
        """Say whether something must be mended by hand."""
        return bool(self.to_mend)

    def to_json(self) -> dict[str, Any]:
        """Return all facts, every single finding and the plan as plain values."""
        plan = self.plan and {
            "recipe": self.plan.recipe.model_dump(by_alias=True),
            "weights": self.plan.weights,
            "reasons": list(self.plan.reasons),
            "steps": self.plan.steps,
            "hours": self.plan.hours,
            "commands": list(self.commands),
        }
        return {
            "data": str(self.data),
            "needs_mending": self.needs_mending,
            "opened_images": {split: len(pictures) for split, pictures in self.opened.items()},
            "facts": {facts.name: asdict(facts) for facts in self.facts},
            "counts": [
                {"severity": g.first.severity, "what": g.first.what, "count": len(g.findings)}
                for g in grouped(self.findings)
            ],
            "findings": [asdict(finding) for finding in self.findings],
            "plan": plan,
        }


def audit(
    data: str | Path,
    *,
    format: str | None = None,
    all_images: bool = False,
    timer: Timer | None = None,
    has_gpu: bool | None = None,
    progress: bool = False,
) -> DataAudit:
    """Survey a data set: a folder or file in any format that `open_dataset` knows.

    Some hundred pictures of every split are opened, or all of them. `timer` measures how long a
    planned step takes; without it the plan names no time. `has_gpu` None asks this machine.
    A split that cannot be read is a finding. Raises DataError when there is no data set at all.
    """
    began = time.monotonic()
    splits, unreadable = _open_splits(Path(data), format)
    training = _training(splits)
    plan = None
    findings = [*unreadable]
    if training is not None:
        has_gpu = torch.cuda.is_available() if has_gpu is None else has_gpu
        plan = recommend(training, has_gpu)
        findings += _untrainable(training)
    preprocessing = Preprocessing() if plan is None else plan.preprocessing
    findings += findings_of(
        splits, PUBLISHED_QUERIES if plan is None else plan.num_queries, preprocessing
    )
    opened = _open_pictures(splits, None if all_images else SAMPLE, progress)
    findings += [finding for each in opened.values() for pic in each for finding in pic.findings]
    near_duplicates = alike(splits, opened)
    findings += [each.finding(splits) for each in near_duplicates]
    facts = [facts_of(split, [index], preprocessing) for split, index in splits.items()]
    if len(splits) > 1:
        facts.append(facts_of("all", list(splits.values()), preprocessing))
    if plan is not None and timer is not None and training is not None:
        plan = _timed(plan, training, opened, timer)
    return DataAudit(
        Path(data),
        splits,
        opened,
        tuple(facts),
        tuple(findings),
        tuple(near_duplicates),
        plan,
        time.monotonic() - began,
        format,
    )


def _timed(
    plan: TrainingPlan,
    training: DetectionDataset,
    opened: Mapping[str, Sequence[Picture]],
    timer: Timer,
) -> TrainingPlan:
    """Return the plan with its measured time, where some of its pictures can be used."""
    split = "train" if "train" in opened else next(iter(opened))
    usable = [picture.image for picture in opened[split] if picture.look]
    chosen = training.choose(np.array(usable, dtype=np.int64))
    if not len(objects_of(chosen).row):
        return plan
    return plan.timed(timer(plan.recipe, chosen))


def _open_splits(
    data: Path, format: str | None
) -> tuple[dict[str, DetectionDataset], list[Finding]]:
    parts = discover_splits(data, format)
    if data.is_file():
        return {data.stem: open_dataset(data, "train", format)}, []
    splits: dict[str, DetectionDataset] = {}
    found: list[Finding] = []
    others = sorted(name for name in parts if name != WHOLE and canonical(name) is None)
    for split in (*_SPLITS, *others):
        if not has_split(data, split, format):
            continue
        try:
            if split != "train" and "train" in splits:
                require_split(data, split, format)
        except DataError:
            continue  # too few images were read to hold some out
        try:
            splits[split] = open_dataset(data, split, format)
        except DataError as error:
            done = "the whole split is unusable until this is mended"
            what = "split that cannot be read"
            if all(finding.value != str(error) for finding in found):  # val may be cut out of train
                found.append(Finding("mend", what, done, split, value=str(error)))
    return splits, [*found, *_count_once(splits)]


def _count_once(splits: dict[str, DetectionDataset]) -> Iterator[Finding]:
    """Leave in trainval only what neither train nor val has, and say what it shares with them."""
    union = splits.pop(_UNION, None)
    if union is None:
        return
    counted = {
        splits[split].path(image)
        for split in ("train", "val")
        if split in splits
        for image in range(len(splits[split]))
    }
    further = [image for image in range(len(union)) if union.path(image) not in counted]
    if further:
        splits[_UNION] = union.choose(np.array(further, dtype=np.int64))
    value = f"{len(union) - len(further)} of its {len(union)} images"
    what, done = "trainval repeats train and val", "as VOC defines it; counted once"
    yield Finding("note", what, done, _UNION, value=value)


def _training(splits: Mapping[str, DetectionDataset]) -> DetectionDataset | None:
    """Return the split to train on; a data set that is one file is taken for one."""
    alone = next(iter(splits.values())) if len(splits) == 1 else None
    return splits.get("train", None if set(splits) & set(_SPLITS) else alone)


def _untrainable(training: DetectionDataset) -> list[Finding]:
    try:
        require_trainable(training)
    except DataError as error:
        done = "annotate at least one object"
        return [Finding("mend", "nothing to train on", done, "train", value=str(error))]
    return []


def _to_open(index: DetectionDataset, split: str, most: int | None) -> list[int]:
    """Return the images to open: a sample, and whichever look as if they could not be read."""
    probed = None if canonical(split) in ("val", "test") else PROBED
    suspects = {} if most is None else find_unreadable(index, probed, masks=True)
    return sorted({*sample(index, most).tolist(), *suspects})


def _open_pictures(
    splits: Mapping[str, DetectionDataset], most: int | None, progress: bool
) -> dict[str, list[Picture]]:
    chosen = {split: _to_open(index, split, most) for split, index in splits.items()}
    console = Console(stderr=True)
    shown = progress and console.is_terminal
    with Progress(console=console, transient=True, disable=not shown) as bar:
        task = bar.add_task("opening pictures", total=sum(map(len, chosen.values())))
        return {
            split: open_pictures(index, chosen[split], split, lambda: bar.advance(task))
            for split, index in splits.items()
        }


def write_json(audit: DataAudit, path: Path) -> None:
    """Write all facts, findings and the plan as JSON."""
    with atomic_file(path) as aside:
        text = json.dumps(audit.to_json(), indent=2, ensure_ascii=False, allow_nan=False)
        aside.write_text(text + "\n", encoding="utf-8")


def write_recipe(audit: DataAudit, path: Path) -> None:
    """Write the planned recipe as YAML for `setmatch train --recipe`.

    Raises DataError when there was nothing to plan for.
    """
    if audit.plan is None:
        raise DataError(f"{audit.data}: no training split that can be read, so there is no plan")
    with atomic_file(path) as aside:
        aside.write_text(audit.plan.to_yaml(), encoding="utf-8")
