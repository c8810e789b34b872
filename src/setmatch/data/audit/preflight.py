"""The cheap part of a survey, with which every training begins: from the index alone."""

import json
from collections import Counter
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

from setmatch.data.audit.checks import Finding, Group, Severity, findings_of, grouped
from setmatch.data.audit.statistics import Facts, facts_of
from setmatch.data.corrupt_files import (
    PROBED,
    check_evaluation_corruption,
    check_training_corruption,
    find_unreadable,
    unreadable_notes,
)
from setmatch.data.dataset import DetectionDataset
from setmatch.files import whole_file
from setmatch.structures.metadata import Preprocessing

_SAID: Mapping[Severity, str] = {"mend": "mend this", "repaired": "repaired", "note": "note"}


@dataclass(frozen=True)
class DataCheck:
    """What a run is given to learn from, and what was found in it."""

    sources: Mapping[str, Path]
    facts: tuple[Facts, ...]
    findings: tuple[Finding, ...]

    def sentences(self) -> list[str]:
        """Say every kind of finding in a line, the gravest first."""
        return [_sentence(group) for group in grouped(self.findings)]

    def write(self, path: Path, while_training: Mapping[str, object] | None = None) -> None:
        """Write the counts, and every single repair, drop and finding, as JSON.

        `while_training` counts what augmentation has clipped and dropped since.
        """
        report = {
            "splits": {
                facts.name: {
                    "source": str(self.sources[facts.name]),
                    "images": facts.images,
                    "images_without_objects": facts.empty_images,
                    "objects_to_learn": facts.objects,
                    "crowd": facts.crowd,
                    "left_out": facts.left_out,
                    "classes": facts.class_objects,
                }
                for facts in self.facts
            },
            "counts": dict(Counter(_kind(finding) for finding in self.findings)),
            "findings": [asdict(finding) for finding in self.findings],
        }
        if while_training is not None:
            report["while_training"] = while_training
        with whole_file(path) as aside:
            aside.write_text(json.dumps(report, indent=1, ensure_ascii=False), encoding="utf-8")


def check_data(
    training: DetectionDataset,
    validation: DetectionDataset | None,
    num_queries: int,
    preprocessing: Preprocessing,
) -> DataCheck:
    """Look for what a model with `num_queries` would suffer from; takes seconds for COCO.

    `require_trainable` is another matter: it must come before anything expensive.
    """
    splits = {"train": training} | ({} if validation is None else {"val": validation})
    return DataCheck(
        {split: index.source for split, index in splits.items()},
        tuple(facts_of(split, [index], preprocessing) for split, index in splits.items()),
        tuple(findings_of(splits, num_queries, preprocessing)),
    )


def check_files(
    training: DetectionDataset, validation: DetectionDataset | None, skip: bool, masks: bool = False
) -> list[Finding]:
    """Look for image files that cannot be read, in seconds: all to evaluate on, some to learn from.

    With `masks`, the PNG files of segments are among them. Raises DataError where they are too many
    to go on, or without `skip` at the first: at once, and not at the first evaluation.
    """
    bad = find_unreadable(training, PROBED, masks)
    check_training_corruption(training, bad.values(), skip)
    findings = [left_out(problem) for problem in bad.values()]
    if validation is not None:
        bad = find_unreadable(validation, masks=masks)
        check_evaluation_corruption(validation, bad)
        if not skip:
            check_training_corruption(validation, bad.values(), skip)
        findings += [not_answered(problem) for problem in unreadable_notes(validation, bad)]
    return findings


def left_out(problem: str) -> Finding:
    """Return what there is to say of an unreadable image to learn from."""
    return Finding("mend", "image that cannot be read", "left out of training", value=problem)


def not_answered(problem: str) -> Finding:
    """Return what there is to say of an unreadable image to evaluate on."""
    what, done = "validation image that cannot be read", "it costs AP in every evaluation"
    return Finding("mend", what, done, value=problem)


def _kind(finding: Finding) -> str:
    return f"{finding.what}: {finding.done}" if finding.done else finding.what


def _sentence(group: Group) -> str:
    first, count = group.first, len(group.findings)
    where = "/".join(part for part in (first.split, first.file) if part)
    example = ", ".join(part for part in (where, first.value) if part)
    such = "" if not example else f" ({example})" if count == 1 else f" (such as {example})"
    return f"data, {_SAID[first.severity]}: {count:,} x {_kind(first)}{such}"
