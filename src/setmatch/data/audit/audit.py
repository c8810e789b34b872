"""The audit of a data set: open it once, count, check, and recommend how to train on it."""

import json
import shlex
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from rich.console import Console
from rich.progress import Progress

from setmatch.config import Recipe
from setmatch.data.audit.checks.checks import check_annotations, require_trainable
from setmatch.data.audit.checks.image_checks import (
    SAMPLE_SIZE,
    ImageCheck,
    NearDuplicate,
    check_images,
    find_near_duplicates,
    num_probed,
)
from setmatch.data.audit.checks.polygon_checks import check_polygons
from setmatch.data.audit.checks.stored_size import check_stored_size
from setmatch.data.audit.findings import Finding, group_findings
from setmatch.data.audit.recommend.recommend import PUBLISHED_QUERIES, TrainingPlan, recommend
from setmatch.data.audit.recommend.tiles import check_tiles, train_command
from setmatch.data.audit.statistics import SplitStatistics, compute_statistics, objects_of
from setmatch.data.dataset import DetectionDataset
from setmatch.data.discovery import DiscoveredDataset
from setmatch.data.formats.base import LostSplitError
from setmatch.data.images.corrupt_files import find_unreadable, sample
from setmatch.data.images.unreadable import unreadable_line
from setmatch.data.open import open_splits
from setmatch.data.splits import SPLITS
from setmatch.errors import DataError
from setmatch.files.writing import write_text
from setmatch.structures.metadata import Preprocessing

_UNION = "trainval"  # train and val together, as VOC defines it; shared images are no leak
_RECIPE = "plan.yaml"
# A recipe and a training split -> seconds of a training step.
Timer = Callable[[Recipe, DetectionDataset], float]


class UnfixableDataError(DataError):
    """An audit found problems that must be fixed by hand."""

    exit_code = 1


@dataclass(frozen=True)
class DataAudit:
    """Statistics and findings of a data set, and a recommended training plan.

    `statistics` has an entry for each split, then one for all of them if there are several.
    `image_checks` are the images that were opened. `plan` is None without a split to train on.
    `format` and `boxes` are the format and box convention asked for, `recipe` the file that the
    plan's recipe is written to, if any.
    """

    data: Path
    discovered: DiscoveredDataset
    splits: Mapping[str, DetectionDataset]
    image_checks: Mapping[str, Sequence[ImageCheck]]
    statistics: tuple[SplitStatistics, ...]
    findings: tuple[Finding, ...]
    near_duplicates: tuple[NearDuplicate, ...]
    plan: TrainingPlan | None
    seconds: float
    format: str | None = None
    recipe: Path | None = None
    boxes: str | None = None

    @property
    def commands(self) -> tuple[str, ...]:
        """Return the command lines that follow the plan, ready to be copied."""
        if self.plan is None:
            return ()
        train = self.plan.command(self.data, self.recipe or _RECIPE, self.format, self.boxes)
        if self.recipe is not None:
            return (train,)
        words = ["setmatch", "audit", str(self.data), "--write-recipe", _RECIPE]
        words += [] if self.format is None else ["--format", self.format]
        words += [] if self.boxes is None else ["--boxes", self.boxes]
        return shlex.join(words), train

    @property
    def unreadable(self) -> str:
        """Return how many of the images looked at cannot be read, and which; "" for none."""
        checks = [check for checks in self.image_checks.values() for check in checks]
        unread = {file for dataset in self.splits.values() for file in dataset.unread}
        found = [check.unreadable for check in checks if check.unreadable is not None]
        images = sum(map(len, self.splits.values()))
        looked_at = sum(
            max(len(self.image_checks[split]), num_probed(split, dataset))
            for split, dataset in self.splits.items()
        )
        return unreadable_line([*unread, *found], looked_at + len(unread), looked_at == images)

    @property
    def error_count(self) -> int:
        """Return the number of problems that must be fixed by hand."""
        return sum(finding.severity == "error" for finding in self.findings)

    @property
    def verdict(self) -> str:
        """Return whether anything must be fixed by hand, as a phrase."""
        if not self.error_count:
            return "no problem must be fixed by hand"
        return f"{self.error_count:,} problem{'s' * (self.error_count != 1)} must be fixed by hand"

    def require_no_errors(self) -> None:
        """Raise UnfixableDataError if a problem must be fixed by hand."""
        if self.error_count:
            raise UnfixableDataError(f"{self.data}: {self.verdict}, see above")

    def to_json(self) -> dict[str, Any]:
        """Return all statistics, findings and the plan as plain values."""
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
            "errors": self.error_count,
            "unreadable": self.unreadable,
            "opened_images": {split: len(checks) for split, checks in self.image_checks.items()},
            "statistics": {each.name: asdict(each) for each in self.statistics},
            "counts": [
                {"severity": g.first.severity, "kind": g.first.kind, "count": len(g.findings)}
                for g in group_findings(self.findings)
            ],
            "findings": [asdict(finding) for finding in self.findings],
            "plan": plan,
        }

    def write_json(self, path: Path) -> None:
        """Write `to_json` to a file."""
        text = json.dumps(self.to_json(), indent=2, ensure_ascii=False, allow_nan=False)
        write_text(path, text + "\n")

    def write_recipe(self, path: Path) -> None:
        """Write the plan's recipe as YAML for `setmatch train --recipe`.

        Raises DataError if there is no plan.
        """
        if self.plan is None:
            raise DataError(f"{self.data}: no readable training split, so there is no plan")
        write_text(path, self.plan.to_yaml())


def audit(
    data: str | Path,
    *,
    format: str | None = None,
    boxes: str | None = None,
    all_images: bool = False,
    timer: Timer | None = None,
    has_gpu: bool | None = None,
    recipe: Path | None = None,
    progress: bool = False,
) -> DataAudit:
    """Audit a data set: a folder or file in any format that `open_dataset` reads.

    300 images of each split are opened, or all with `all_images`. `timer` measures the duration of
    a training step; without it the plan gives no time. `has_gpu` None detects a GPU. `recipe` is
    the file that the plan's commands name. `boxes` names the convention of the boxes, as in
    `open_dataset`. A split that cannot be read is a finding. Raises
    DataError if there is no data set.
    """
    start = time.monotonic()
    opened = open_splits(data, format, boxes)
    splits, union_notes = _without_union(opened.datasets)
    findings = [*_unreadable_splits(opened.errors), *union_notes]
    training = _training_split(splits)
    plan = None
    if training is not None:
        plan = recommend(training, torch.cuda.is_available() if has_gpu is None else has_gpu)
        findings += _require_objects(training)
    num_queries = PUBLISHED_QUERIES if plan is None else plan.num_queries
    preprocessing = Preprocessing() if plan is None else plan.preprocessing
    tiles = None if plan is None else plan.recipe.data.tiles
    findings += check_annotations(splits, num_queries, preprocessing, tiles)
    if training is not None:
        command = train_command(data, format, boxes)
        findings += check_tiles("train", training, preprocessing, command)
    findings += [each for split in splits for each in check_polygons(split, splits[split])]
    findings += [each for split in splits for each in check_stored_size(split, splits[split])]
    image_checks = _check_images(splits, None if all_images else SAMPLE_SIZE, progress)
    findings += [
        finding for checks in image_checks.values() for each in checks for finding in each.findings
    ]
    near_duplicates = find_near_duplicates(splits, image_checks)
    findings += [each.finding(splits) for each in near_duplicates]
    statistics = [
        compute_statistics(split, [dataset], preprocessing) for split, dataset in splits.items()
    ]
    if len(splits) > 1:
        statistics.append(compute_statistics("all", list(splits.values()), preprocessing))
    if plan is not None and timer is not None and training is not None:
        plan = _with_step_time(plan, training, image_checks, timer)
    return DataAudit(
        Path(data),
        opened.discovered,
        splits,
        image_checks,
        tuple(statistics),
        tuple(findings),
        tuple(near_duplicates),
        plan,
        time.monotonic() - start,
        format,
        recipe,
        boxes,
    )


def _unreadable_splits(errors: Mapping[str, DataError]) -> list[Finding]:
    kind, action = "split that cannot be read", "the whole split is unusable until this is fixed"
    splits: dict[str, str] = {}  # by message: train and val may be taken from the same file
    for split, error in errors.items():
        splits.setdefault(str(error), split)
    lost = str(errors.get("test")) if isinstance(errors.get("test"), LostSplitError) else None
    return [
        # Roboflow names a test split whether there is one or not.
        Finding("note", "no test split", "", split, value=message)
        if message == lost
        else Finding("error", kind, action, split, value=message)
        for message, split in splits.items()
    ]


def _without_union(
    datasets: Mapping[str, DetectionDataset],
) -> tuple[dict[str, DetectionDataset], list[Finding]]:
    """Return the splits with trainval reduced to images that are in neither train nor val."""
    splits = {split: dataset for split, dataset in datasets.items() if split != _UNION}
    union = datasets.get(_UNION)
    if union is None:
        return splits, []
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
    kind, action = "trainval repeats train and val", "as VOC defines it; counted once"
    return splits, [Finding("note", kind, action, _UNION, value=value)]


def _training_split(splits: Mapping[str, DetectionDataset]) -> DetectionDataset | None:
    """Return the split to train on: train, or the only split if its name says nothing else."""
    alone = next(iter(splits.values())) if len(splits) == 1 else None
    return splits.get("train", None if set(splits) & set(SPLITS) else alone)


def _require_objects(training: DetectionDataset) -> list[Finding]:
    try:
        require_trainable(training)
    except DataError as error:
        action = "annotate at least one object"
        return [Finding("error", "no object to train on", action, "train", value=str(error))]
    return []


def _check_images(
    splits: Mapping[str, DetectionDataset], most: int | None, progress: bool
) -> dict[str, list[ImageCheck]]:
    chosen = {split: _choose_images(dataset, split, most) for split, dataset in splits.items()}
    console = Console(stderr=True)
    visible = progress and console.is_terminal
    with Progress(console=console, transient=True, disable=not visible) as bar:
        task = bar.add_task("opening images", total=sum(map(len, chosen.values())))
        return {
            split: check_images(dataset, chosen[split], split, lambda: bar.advance(task))
            for split, dataset in splits.items()
        }


def _choose_images(dataset: DetectionDataset, split: str, most: int | None) -> list[int]:
    """Return the images to open: a sample, and all that a quick look finds unreadable."""
    suspects = find_unreadable(dataset, num_probed(split, dataset), masks=True) if most else {}
    return sorted({*sample(dataset, most).tolist(), *suspects})


def _with_step_time(
    plan: TrainingPlan,
    training: DetectionDataset,
    image_checks: Mapping[str, Sequence[ImageCheck]],
    timer: Timer,
) -> TrainingPlan:
    """Return the plan with the measured time of a step, if any image can be trained on."""
    split = "train" if "train" in image_checks else next(iter(image_checks))
    usable = [check.image for check in image_checks[split] if check.hash]
    chosen = training.choose(np.array(usable, dtype=np.int64))
    if not len(objects_of(chosen).row):
        return plan
    return plan.timed(timer(plan.recipe, chosen))
