"""The checks before every training: annotations in seconds, and a sample of the image files."""

import json
import shlex
from collections import Counter
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

from setmatch.data.audit.checks.checks import check_annotations
from setmatch.data.audit.checks.stored_size import check_stored_size
from setmatch.data.audit.findings import (
    UNREADABLE_KIND,
    UNREADABLE_KINDS,
    Finding,
    FindingGroup,
    Severity,
    group_findings,
)
from setmatch.data.audit.recommend.tiles import USE_TILES, check_tiles
from setmatch.data.audit.statistics import SplitStatistics, compute_statistics
from setmatch.data.dataset import DetectionDataset
from setmatch.data.images.corrupt_files import (
    PROBED,
    check_evaluation_corruption,
    check_training_corruption,
    find_unreadable,
    unreadable_notes,
)
from setmatch.data.images.unreadable import unreadable_line
from setmatch.files.writing import write_text
from setmatch.setting_values import TileSide
from setmatch.structures.metadata import Preprocessing

_LABELS: Mapping[Severity, str] = {"error": "fix this", "fixed": "fixed", "note": "note"}
_TOLD = "training leaves them out, evaluations miss their objects, data_report.json has their paths"


@dataclass(frozen=True)
class DataCheck:
    """Sources, statistics and findings of the splits that a run trains and validates on."""

    sources: Mapping[str, Path]
    statistics: tuple[SplitStatistics, ...]
    findings: tuple[Finding, ...]
    unreadable: str = ""  # how many image files cannot be read, and which; "" for none

    def sentences(self) -> list[str]:
        """Return one line for each kind of finding, the most severe first."""
        groups = group_findings(self.findings)
        sentences = [_sentence(each) for each in groups if each.first.kind not in UNREADABLE_KINDS]
        if not self.unreadable:
            return sentences
        return [f"data: {self.unreadable}; {_TOLD}", *sentences]

    def write(self, path: Path, while_training: Mapping[str, object] | None = None) -> None:
        """Write the statistics and every finding as JSON.

        `while_training` counts the boxes that augmentation has clipped and dropped so far.
        """
        report = {
            "splits": {
                each.name: {
                    "source": str(self.sources[each.name]),
                    "images": each.images,
                    "images_without_objects": each.images_without_objects,
                    "objects_to_learn": each.objects,
                    "crowd": each.crowd,
                    "left_out": each.left_out,
                    "classes": each.objects_per_class,
                }
                for each in self.statistics
            },
            "counts": dict(Counter(_kind_and_action(finding) for finding in self.findings)),
            "findings": [asdict(finding) for finding in self.findings],
        }
        if while_training is not None:
            report["while_training"] = while_training
        write_text(path, json.dumps(report, indent=1, ensure_ascii=False))


def check_data(
    training: DetectionDataset,
    validation: DetectionDataset | None,
    num_queries: int,
    preprocessing: Preprocessing,
    tiles: TileSide = None,
) -> DataCheck:
    """Check the annotations for a model with `num_queries`, which may see `tiles`, too.

    COCO takes seconds.

    `require_trainable` is not included: it must come before anything expensive.
    """
    splits = {"train": training} | ({} if validation is None else {"val": validation})
    findings = check_annotations(splits, num_queries, preprocessing, tiles)
    for split, dataset in splits.items():
        findings += check_stored_size(split, dataset)
    if tiles is None:
        findings += check_tiles("train", training, preprocessing, shlex.join(USE_TILES))
    return DataCheck(
        {split: dataset.source for split, dataset in splits.items()},
        tuple(
            compute_statistics(split, [dataset], preprocessing) for split, dataset in splits.items()
        ),
        tuple(findings),
    )


def check_files(
    training: DetectionDataset, validation: DetectionDataset | None, skip: bool, masks: bool = False
) -> tuple[list[Finding], str]:
    """Check image files in seconds: all validation images, and a sample of the training images.

    `masks` also checks the PNG files of panoptic segments. Returns the findings, and how many image
    files cannot be read. Raises DataError if too many cannot be read or, without `skip`, at the
    first one: better now than at the first evaluation.
    """
    problems = find_unreadable(training, PROBED, masks)
    check_training_corruption(training, problems.values(), skip)
    findings = [unreadable_training_image(str(problem)) for problem in problems.values()]
    files, images = [*training.unread, *problems.values()], min(len(training), PROBED)
    if validation is not None:
        problems = find_unreadable(validation, masks=masks)
        check_evaluation_corruption(validation, problems)
        if not skip:
            check_training_corruption(validation, problems.values(), skip)
        findings += [
            unreadable_validation_image(problem)
            for problem in unreadable_notes(validation, problems)
        ]
        files += [*validation.unread, *problems.values()]
        images += len(validation)
    unread = {*training.unread, *(validation.unread if validation is not None else ())}
    line = unreadable_line(files, images + len(unread), are_all=len(training) <= PROBED)
    return findings, line


def unreadable_training_image(problem: str) -> Finding:
    """Return the finding for a training image that cannot be read."""
    return Finding("error", UNREADABLE_KIND, "left out of training", value=problem)


def unreadable_validation_image(problem: str) -> Finding:
    """Return the finding for a validation image that cannot be read."""
    return Finding("error", UNREADABLE_KIND, "lowers AP in every evaluation", value=problem)


def _kind_and_action(finding: Finding) -> str:
    return f"{finding.kind}: {finding.action}" if finding.action else finding.kind


def _sentence(group: FindingGroup) -> str:
    first, count = group.first, len(group.findings)
    where = "/".join(part for part in (first.split, first.file) if part)
    example = ", ".join(part for part in (where, first.value) if part)
    such = "" if not example else f" ({example})" if count == 1 else f" (such as {example})"
    return f"data, {_LABELS[first.severity]}: {count:,} x {_kind_and_action(first)}{such}"
