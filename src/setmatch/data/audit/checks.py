"""What is wrong or worth knowing in a data set, found in the index alone."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
from jaxtyping import Int64

from setmatch.data.audit.statistics import Objects, objects_of, scales
from setmatch.data.dataset import AnnotationFix, DetectionDataset
from setmatch.errors import DataError
from setmatch.structures.metadata import Preprocessing

Severity = Literal["mend", "repaired", "note"]
SEVERITIES: Mapping[Severity, str] = {
    "mend": "must be mended by hand",
    "repaired": "is repaired when the data are read",
    "note": "worth knowing",
}
TINY_PX = 8
CELL_PX = 32  # the coarsest stride of the models
FEW_OBJECTS = 10
_ODD = np.array([0x9E3779B97F4A7C15 * (2 * k + 1) % 2**63 | 1 for k in range(6)], dtype=np.int64)


@dataclass(frozen=True)
class Finding:
    """One thing found: what it is, where, its value, and what is or must be done about it.

    Findings of one `what` are counted together. `file` is the image's name, or "" when the finding
    is about a split or a class; `annotation` is an id of the annotation file, `line` a line of it.
    """

    severity: Severity
    what: str
    done: str
    split: str = ""
    file: str = ""
    annotation: int | None = None
    line: int | None = None
    value: str = ""


@dataclass(frozen=True)
class Group:
    """All findings of one kind; they agree in severity, in `what` and in `done`."""

    findings: tuple[Finding, ...]

    @property
    def first(self) -> Finding:
        """Return the finding that stands for them all."""
        return self.findings[0]


def grouped(findings: Sequence[Finding]) -> list[Group]:
    """Return findings by kind, the gravest first, then the most frequent."""
    kinds: dict[tuple[str, str, str], list[Finding]] = {}
    for finding in findings:
        kinds.setdefault((finding.severity, finding.what, finding.done), []).append(finding)
    rank = {severity: number for number, severity in enumerate(SEVERITIES)}
    groups = [Group(tuple(kind)) for kind in kinds.values()]
    return sorted(groups, key=lambda group: (rank[group.first.severity], -len(group.findings)))


def findings_of(
    splits: Mapping[str, DetectionDataset], num_queries: int, preprocessing: Preprocessing
) -> list[Finding]:
    """Return what the indexes of the splits ("train", "val", ...) tell without any picture.

    `num_queries` and `preprocessing` are those of the planned model. Takes seconds for COCO.
    """
    found = [*_openings(splits), *_repairs(splits), *_between_splits(splits)]
    for split, index in splits.items():
        objects = objects_of(index)
        found += _contradictory(split, index, objects)
        found += _crowded(split, index, objects, num_queries)
        found += _tiny(split, index, objects, preprocessing)
        found += _narrow(split, index, preprocessing)
        found += _classes(split, index, objects, splits.get("train"))
    return found


def require_trainable(training: DetectionDataset) -> None:
    """Refuse the only thing that no training can do anything with: no object in any image.

    Raises DataError that says what became of the annotations.
    """
    if len(objects_of(training).row):
        return
    crowd = int(training.crowd.sum())
    counts = [f"{crowd} crowd regions"] if crowd else []
    counts += [f"{count} × {done}" for done, count in training.fix_counts.items()]
    raise DataError(
        f"{training.source}: no object to learn in its {len(training)} images "
        f"({'; '.join(counts) or 'there are no annotations'}); annotate at least one object, "
        "or see `setmatch audit`"
    )


def _openings(splits: Mapping[str, DetectionDataset]) -> Iterator[Finding]:
    for note in dict.fromkeys(note for index in splits.values() for note in index.notes):
        yield Finding("note", "how it was opened", "", value=note)


def _repairs(splits: Mapping[str, DetectionDataset]) -> Iterator[Finding]:
    sources = [index.source for index in splits.values()]
    told: set[tuple[Path, AnnotationFix]] = set()
    for split, index in splits.items():
        # Splits that were divided from one file have its repairs in common.
        alone = sources.count(index.source) == 1
        # Told by another split, that is: two entries of a file may well be odd in the same words.
        fresh = [repair for repair in index.fixes if (index.source, repair) not in told]
        told |= {(index.source, repair) for repair in fresh}
        for repair in fresh:
            what, _, done = repair.done.partition(": ")
            yield Finding(
                "note" if done == "kept" else "repaired",
                what,
                done,
                split if alone else "",
                repair.file,
                repair.annotation,
                repair.line,
                repair.value,
            )


def _between_splits(splits: Mapping[str, DetectionDataset]) -> Iterator[Finding]:
    if "train" in splits and "val" not in splits:
        yield Finding(
            "note",
            "no validation split",
            "nothing tells when the model has learned enough; set a tenth of the images aside",
        )
    seen: dict[tuple[Path, str], str] = {}
    for split, index in splits.items():
        root = index.images.resolve()
        names = [(root, index.name(image)) for image in range(len(index))]
        for key in names:
            if key in seen:
                yield Finding(
                    "mend",
                    "the same image file in two splits",
                    "leave it out of one, or the AP is too good to be true",
                    split,
                    key[1],
                    value=f"also in {seen[key]}",
                )
        seen |= dict.fromkeys((key for key in names if key not in seen), split)


def _contradictory(split: str, index: DetectionDataset, objects: Objects) -> Iterator[Finding]:
    """Yield the boxes that stand exactly where one of another class does in the same image."""
    boxes = (objects.xywh_px + 0.0).view(np.int64)  # no -0.0, so that equal boxes have equal bits
    place = np.column_stack([objects.image, boxes])
    same_class = _repeats(np.column_stack([place, index.class_indices[objects.row]]))
    for position in np.setdiff1d(_repeats(place), same_class).tolist():
        what, done = "the same box under two classes", "both are kept; delete the wrong one"
        yield _of_object("note", what, done, split, index, objects, position)


def _crowded(
    split: str, index: DetectionDataset, objects: Objects, num_queries: int
) -> Iterator[Finding]:
    per_image = np.bincount(objects.image, minlength=len(index))
    for image in np.flatnonzero(per_image > num_queries).tolist():
        yield Finding(
            "note",
            "image with more objects than queries",
            f"the model answers with {num_queries} boxes; raise num_queries "
            "(--set model.arguments.num_queries=N) or cut the image",
            split,
            index.name(image),
            value=f"{per_image[image]} objects",
        )


def _tiny(
    split: str, index: DetectionDataset, objects: Objects, preprocessing: Preprocessing
) -> Iterator[Finding]:
    """Yield one finding for all objects that nearly vanish: there may be very many."""
    scale = scales(index.sizes_px, preprocessing)[objects.image]
    side_px = np.sqrt(objects.xywh_px[:, 2:].prod(axis=1)) * scale
    tiny = int((side_px < TINY_PX).sum())
    if tiny:
        least = int(side_px.argmin())
        share = tiny / len(side_px)
        yield _of_object(
            "note",
            f"objects under {TINY_PX} px after resizing",
            "hardly learnable; a higher resolution or smaller tiles would show them larger",
            split,
            index,
            objects,
            least,
            f"{tiny} objects ({share:.1%}); the smallest has {side_px[least]:.1f} px, {{box}}",
        )


def _narrow(split: str, index: DetectionDataset, preprocessing: Preprocessing) -> Iterator[Finding]:
    """Yield images narrower than a cell of features: as they are seen, or before being enlarged."""
    scale = scales(index.sizes_px, preprocessing)[:, None]
    seen_px = np.maximum((index.sizes_px * scale).round().astype(int), 1)
    narrow = (index.sizes_px * scale).min(axis=1) < CELL_PX
    small = ~narrow & (index.sizes_px.min(axis=1) < CELL_PX)
    for image in np.flatnonzero(narrow | small).tolist():
        height, width = seen_px[image].tolist()
        seen = f"seen in {width}x{height} pixels"
        if narrow[image]:
            yield Finding(
                "note",
                f"image narrower than {CELL_PX} px after resizing",
                f"the coarsest features have one cell for {CELL_PX} px, so that little of it is "
                "seen; raise data.long_side_px, or cut the image into pieces",
                split,
                index.name(image),
                value=seen,
            )
            continue
        height, width = index.sizes_px[image].tolist()
        yield Finding(
            "note",
            f"image narrower than {CELL_PX} px",
            "it is enlarged, which shows nothing new; take larger pictures where there are any",
            split,
            index.name(image),
            value=f"{width}x{height} pixels, {seen}",
        )


def _classes(
    split: str, index: DetectionDataset, objects: Objects, training: DetectionDataset | None
) -> Iterator[Finding]:
    counts = np.bincount(index.class_indices[objects.row], minlength=len(index.categories)).tolist()
    named = {index.categories.name(class_index): count for class_index, count in enumerate(counts)}
    if index is not training and training is not None:
        taught = training.class_indices[objects_of(training).row]
        known = {
            training.categories.name(class_index) for class_index in np.unique(taught).tolist()
        }
        for name, count in named.items():
            if count and name not in known:
                what = "class without an object to learn from"
                done = "never found, so that its AP will be 0"
                yield Finding("note", what, done, split, value=f"{name}: {_objects(count)}")
            if not count and name in known:
                done = f"its AP cannot be measured on {split}"
                yield Finding("note", "class missing from a split", done, split, value=name)
        return
    for name, count in named.items():
        if not count:
            done = "the model has a place for it, but learns nothing; delete it or add pictures"
            yield Finding("note", "class without a box", done, split, value=name)
        elif count < FEW_OBJECTS:
            done = "too few to learn from; add pictures, or merge it with another class"
            value = f"{name}: {_objects(count)}"
            yield Finding(
                "note", f"class with under {FEW_OBJECTS} objects", done, split, value=value
            )


def _objects(count: int) -> str:
    return "1 object" if count == 1 else f"{count} objects"


def _of_object(
    severity: Severity,
    what: str,
    done: str,
    split: str,
    index: DetectionDataset,
    objects: Objects,
    position: int,
    value: str = "{box}",
) -> Finding:
    row = objects.row[position]
    sides = ", ".join(f"{side:g}" for side in index.xywh_px[row].tolist())
    return Finding(
        severity,
        what,
        done,
        split,
        index.name(int(objects.image[position])),
        int(index.annotation_ids[row]),
        value=value.format(box=f"bbox [{sides}]"),
    )


def _repeats(rows: Int64[np.ndarray, "M K"]) -> Int64[np.ndarray, " R"]:
    """Return the positions of rows that say what a row before them says."""
    # Sums of wrapped products tell nearly all rows apart; only the suspects are compared in full.
    codes = (rows * _ODD[: rows.shape[1]]).sum(axis=1)
    _, inverse, counts = np.unique(codes, return_inverse=True, return_counts=True)
    suspects = np.flatnonzero(counts[inverse] > 1)
    if not len(suspects):
        return suspects
    _, first = np.unique(rows[suspects], axis=0, return_index=True)
    return np.delete(suspects, first)
