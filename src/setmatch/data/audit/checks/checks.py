"""Checks of annotations and splits; no image is opened."""

from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np
from jaxtyping import Int64

from setmatch.data.annotations.box_convention import ConventionDoubt
from setmatch.data.annotations.cleaning import BOX_FLAWS, LOST_BOXES, TURNED
from setmatch.data.audit.checks.crowds import check_crowds
from setmatch.data.audit.findings import Finding, Severity
from setmatch.data.audit.recommend.image_size import view_scales
from setmatch.data.audit.recommend.num_queries import shown_at_once
from setmatch.data.audit.statistics import Objects, objects_of, resize_scales
from setmatch.data.batches.random_tile import RandomTile, tile_of
from setmatch.data.dataset import AnnotationFix, DetectionDataset
from setmatch.data.formats.written_paths import fold
from setmatch.errors import DataError, short
from setmatch.setting_values import TileSide
from setmatch.structures.metadata import Preprocessing

TINY_PX = 8
CELL_PX = 32  # the coarsest stride of the models
FEW_OBJECTS = 10
_FEWEST_FLAWS = 3  # boxes; fewer may be a tenth of all by chance
_FEWEST_PARTS = 20  # boxes
_TOO_MANY = (
    "more than a tenth of all boxes, so that it is not a single mistake: correct the file, or say "
    "with --boxes how it writes boxes"
)
_ODD = np.array([0x9E3779B97F4A7C15 * (2 * k + 1) % 2**63 | 1 for k in range(6)], dtype=np.int64)


def check_annotations(
    splits: Mapping[str, DetectionDataset],
    num_queries: int,
    preprocessing: Preprocessing,
    tiles: TileSide = None,
) -> list[Finding]:
    """Return the findings in the annotations of the splits ("train", "val", ...).

    `num_queries` and `preprocessing` are those of the model to train, which may see `tiles`, too.
    COCO takes seconds.
    """
    tile = tile_of(tiles, preprocessing)
    findings = [*_doubts(splits), *_opening_notes(splits), *_fixes(splits)]
    findings += _similar_classes(splits)
    findings += _between_splits(splits)
    for split, dataset in splits.items():
        objects = objects_of(dataset)
        findings += check_crowds(split, dataset)
        findings += _left_top(split, dataset)
        findings += _contradictory_boxes(split, dataset, objects)
        findings += _crowded_images(split, dataset, objects, num_queries, tile)
        findings += _tiny_objects(split, dataset, objects, preprocessing, tiles)
        findings += _narrow_images(split, dataset, preprocessing)
        findings += _classes(split, dataset, objects, splits.get("train"))
    return findings


def require_trainable(training: DetectionDataset) -> None:
    """Raise DataError if no image has an object to train on; say what became of the annotations."""
    if len(objects_of(training).row):
        return
    crowd = int(training.crowd.sum())
    counts = [f"{crowd} crowd regions"] if crowd else []
    counts += [f"{count} × {done}" for done, count in training.fix_counts.items()]
    raise DataError(
        f"{training.source}: no object to train on in its {len(training)} images "
        f"({'; '.join(counts) or 'there are no annotations'}); annotate at least one object, "
        "or run `setmatch audit`"
    )


def require_kept_boxes(training: DetectionDataset) -> None:
    """Raise DataError if more than a tenth of all boxes is left out for one reason.

    A model would learn that such objects are background. `check_annotations` has an error for each.
    """
    common = _common_flaws(training) & set(LOST_BOXES)
    lost = [fix for fix in training.fixes if fix.description in common]
    if not lost:
        return
    counts = Counter(fix.description.partition(":")[0] for fix in lost)
    kinds = "; ".join(f"{count} × {kind}" for kind, count in counts.most_common())
    boxes, first = max(training.annotations_read, len(training.crowd)), lost[0]
    annotation = "" if first.annotation is None else f", annotation {first.annotation}"
    raise DataError(
        f"{training.source}: {len(lost)} of {boxes} boxes are left out ({kinds}; such as "
        f"{short(first.value)} of {first.file}{annotation}), and their objects would be learned "
        "as background: correct them, say with --boxes how boxes are written, or leave them out "
        "for good with `setmatch audit DATA --fix OUT`"
    )


def _opening_notes(splits: Mapping[str, DetectionDataset]) -> Iterator[Finding]:
    for note in dict.fromkeys(note for dataset in splits.values() for note in dataset.notes):
        yield Finding("note", "how the data set was read", "", value=note)


def _doubts(splits: Mapping[str, DetectionDataset]) -> Iterator[Finding]:
    """Yield where the boxes are probably of another convention; once for splits of one file."""
    sources = [dataset.source for dataset in splits.values()]
    found: dict[tuple[Path, ConventionDoubt], list[str]] = {}
    for split, dataset in splits.items():
        if dataset.convention_doubt is not None:
            found.setdefault((dataset.source, dataset.convention_doubt), []).append(split)
    for (source, doubt), names in found.items():
        yield Finding(
            "error",
            "boxes of another convention",
            f"they are probably {doubt.meaning}: {doubt.advice}",
            "" if len(names) == sources.count(source) > 1 else names[0],
            value=f"{doubt.evidence}; {doubt.example}",
        )


def _fixes(splits: Mapping[str, DetectionDataset]) -> Iterator[Finding]:
    """Yield what was fixed while reading.

    Splits taken from one file share its fixes, so each is reported once. A flaw of more than a
    tenth of all boxes is no flaw of single boxes, and must be fixed by hand. Boxes that probably
    follow another convention have flaws because of that, so these are not reported.
    """
    sources = [dataset.source for dataset in splits.values()]
    reported: set[tuple[Path, AnnotationFix]] = set()
    for split, dataset in splits.items():
        shares_file = sources.count(dataset.source) > 1
        # Compare with other splits only: two entries of one file may be odd in the same words.
        new = [fix for fix in dataset.fixes if (dataset.source, fix) not in reported]
        reported |= {(dataset.source, fix) for fix in new}
        common = _common_flaws(dataset)
        for fix in new:
            if dataset.convention_doubt is not None and fix.description in BOX_FLAWS:
                continue
            kind, _, action = fix.description.partition(": ")
            severity: Severity = "note" if action == "kept" else "fixed"
            if fix.description in common:
                severity, action = "error", f"{action}; {_TOO_MANY}"
            yield Finding(
                severity,
                kind,
                action,
                "" if shares_file else split,
                fix.file,
                fix.annotation,
                fix.line,
                fix.value,
            )


def _common_flaws(dataset: DetectionDataset) -> set[str]:
    """Return the flaws that more than a tenth of all boxes have."""
    boxes = max(dataset.annotations_read, len(dataset.crowd))
    # The box around a turned one crosses the edge although the object does not.
    turned = {_place(fix) for fix in dataset.fixes if fix.description == TURNED}
    counts = Counter(fix.description for fix in dataset.fixes if _place(fix) not in turned)
    return {
        flaw for flaw in BOX_FLAWS if counts[flaw] >= _FEWEST_FLAWS and 10 * counts[flaw] > boxes
    }


def _place(fix: AnnotationFix) -> tuple[str, int | None, int | None]:
    return fix.file, fix.annotation, fix.line


def _between_splits(splits: Mapping[str, DetectionDataset]) -> Iterator[Finding]:
    if "train" in splits and "val" not in splits:
        yield Finding(
            "note",
            "no validation split",
            "nothing shows when to stop training; set a tenth of the images aside",
        )
    seen: dict[str, str] = {}
    for split, dataset in splits.items():
        root = dataset.images.resolve()
        names = dataset.file_names()
        for name, count in Counter(names).items() if len(set(names)) < len(names) else ():
            if count > 1:
                yield Finding(
                    "error",
                    "the same image file listed several times",
                    "give all of its boxes to one entry: those of the others are background there",
                    split,
                    name,
                    value=f"{count} times",
                )
        paths = {f"{root}/{name}": name for name in names}
        for key, name in paths.items():
            if key in seen:
                yield Finding(
                    "error",
                    "the same image file in two splits",
                    "remove it from one of them, or AP comes out too high",
                    split,
                    name,
                    value=f"also in {seen[key]}",
                )
        seen = dict.fromkeys(paths, split) | seen


def _similar_classes(splits: Mapping[str, DetectionDataset]) -> Iterator[Finding]:
    """Yield class names, of one split or of several, that differ only in case or blanks."""
    similar: dict[str, dict[str, list[str]]] = {}
    for split, dataset in splits.items():
        for name in filter(None, dataset.categories.names):
            alike = "".join(fold(name).split())
            similar.setdefault(alike, {}).setdefault(name, []).append(split)
    for names in similar.values():
        if len(names) > 1:
            shown = [f"{short(name)} in {' and '.join(where)}" for name, where in names.items()]
            yield Finding(
                "note",
                "class names that differ only in case or blanks",
                "they are learned as different classes; give them one name, if they are one",
                value=", ".join(shown),
            )


def _left_top(split: str, dataset: DetectionDataset) -> Iterator[Finding]:
    """Yield boxes that may be parts of their image, although all are sound as pixels.

    No number is above 100 or 1000, and images are much larger: then all boxes are at the left top.
    """
    boxes = dataset.xywh_px
    if len(boxes) < _FEWEST_PARTS or dataset.convention_doubt is not None:
        return
    smallest_px = int(dataset.sizes_px.min())
    for whole, word in ((100, "percent"), (1000, "thousandths")):
        spread = (boxes[:, :2].min(axis=0) <= 0.3 * whole) & (
            boxes[:, :2].max(axis=0) >= 0.6 * whole
        )
        if smallest_px >= 2 * whole and boxes.max() <= 1.01 * whole and spread.all():
            yield Finding(
                "note",
                "boxes at the left top of all images alone",
                f"if they are in {word} of the image, read them with --boxes {word}",
                split,
                value=f"no number is above {whole}; images have {smallest_px} pixels and more",
            )
            return


def _contradictory_boxes(
    split: str, dataset: DetectionDataset, objects: Objects
) -> Iterator[Finding]:
    """Yield boxes that are equal to a box of another class in the same image."""
    boxes = (objects.xywh_px + 0.0).view(np.int64)  # no -0.0, so that equal boxes have equal bits
    keys = np.column_stack([objects.image, boxes])
    same_class = _repeats(np.column_stack([keys, dataset.class_indices[objects.row]]))
    for position in np.setdiff1d(_repeats(keys), same_class).tolist():
        kind, action = "the same box with two classes", "both are kept; delete the wrong one"
        yield _object_finding("note", kind, action, split, dataset, objects, position)


def _crowded_images(
    split: str,
    dataset: DetectionDataset,
    objects: Objects,
    num_queries: int,
    tile: RandomTile | None,
) -> Iterator[Finding]:
    per_image = shown_at_once(dataset, objects, tile)
    for image in np.flatnonzero(per_image > num_queries).tolist():
        yield Finding(
            "note",
            "image with more objects than queries",
            f"the model detects at most {num_queries} objects in an image; raise num_queries "
            "(--set model.arguments.num_queries=N), or use tiles (--tiles auto)",
            split,
            dataset.name(image),
            value=f"{per_image[image]} objects",
        )


def _tiny_objects(
    split: str,
    dataset: DetectionDataset,
    objects: Objects,
    preprocessing: Preprocessing,
    tiles: TileSide,
) -> Iterator[Finding]:
    """Yield one finding for all objects of a split that are tiny: there may be very many."""
    scale = view_scales(dataset, preprocessing, tiles)[objects.image]
    side_px = np.sqrt(objects.xywh_px[:, 2:].prod(axis=1)) * scale
    tiny = int((side_px < TINY_PX).sum())
    if tiny:
        smallest = int(side_px.argmin())
        fraction = tiny / len(side_px)
        yield _object_finding(
            "note",
            f"objects smaller than {TINY_PX} px after resizing",
            "hard to learn; raise the image size, or use smaller tiles (--tiles SIDE)",
            split,
            dataset,
            objects,
            smallest,
            f"{_objects(tiny)} ({fraction:.1%}); the smallest is {side_px[smallest]:.1f} px, "
            "{box}",
        )


def _narrow_images(
    split: str, dataset: DetectionDataset, preprocessing: Preprocessing
) -> Iterator[Finding]:
    """Yield images narrower than a cell of the coarsest features, after or before resizing."""
    scale = resize_scales(dataset.sizes_px, preprocessing)[:, None]
    resized_px = np.maximum((dataset.sizes_px * scale).round().astype(int), 1)
    narrow = (dataset.sizes_px * scale).min(axis=1) < CELL_PX
    small = ~narrow & (dataset.sizes_px.min(axis=1) < CELL_PX)
    for image in np.flatnonzero(narrow | small).tolist():
        height, width = resized_px[image].tolist()
        resized = f"resized to {width}x{height} pixels"
        if narrow[image]:
            yield Finding(
                "note",
                f"image narrower than {CELL_PX} px after resizing",
                f"the coarsest feature map has one cell per {CELL_PX} px, so the model sees little "
                "of it; raise data.long_side_px, or cut the image into tiles",
                split,
                dataset.name(image),
                value=resized,
            )
            continue
        height, width = dataset.sizes_px[image].tolist()
        yield Finding(
            "note",
            f"image narrower than {CELL_PX} px",
            "upscaling adds no detail; use a larger image if you have one",
            split,
            dataset.name(image),
            value=f"{width}x{height} pixels, {resized}",
        )


def _classes(
    split: str, dataset: DetectionDataset, objects: Objects, training: DetectionDataset | None
) -> Iterator[Finding]:
    per_class = np.bincount(
        dataset.class_indices[objects.row], minlength=len(dataset.categories)
    ).tolist()
    counts = {dataset.categories.name(index): count for index, count in enumerate(per_class)}
    if dataset is not training and training is not None:
        trained = training.class_indices[objects_of(training).row]
        known = {training.categories.name(index) for index in np.unique(trained).tolist()}
        for name, count in counts.items():
            if count and name not in known:
                kind = "class without a training object"
                action = "never detected, so its AP will be 0"
                yield Finding(
                    "note", kind, action, split, value=f"{short(name)}: {_objects(count)}"
                )
            if not count and name in known:
                action = f"its AP cannot be measured on {split}"
                yield Finding(
                    "note", "class missing from a split", action, split, value=short(name)
                )
        return
    for name, count in counts.items():
        if not count:
            action = "the model cannot learn it; delete the class, or add images of it"
            yield Finding("note", "class without a box", action, split, value=short(name))
        elif count < FEW_OBJECTS:
            kind = f"class with fewer than {FEW_OBJECTS} objects"
            action = "too few to learn from; add images, or merge it with another class"
            yield Finding("note", kind, action, split, value=f"{short(name)}: {_objects(count)}")


def _objects(count: int) -> str:
    return "1 object" if count == 1 else f"{count} objects"


def _object_finding(
    severity: Severity,
    kind: str,
    action: str,
    split: str,
    dataset: DetectionDataset,
    objects: Objects,
    position: int,
    value: str = "{box}",
) -> Finding:
    row = objects.row[position]
    sides = ", ".join(f"{side:g}" for side in dataset.xywh_px[row].tolist())
    return Finding(
        severity,
        kind,
        action,
        split,
        dataset.name(int(objects.image[position])),
        int(dataset.annotation_ids[row]),
        value=value.format(box=f"bbox [{sides}]"),
    )


def _repeats(rows: Int64[np.ndarray, "M K"]) -> Int64[np.ndarray, " R"]:
    """Return the positions of rows that are equal to an earlier row."""
    # Sums of wrapped products separate nearly all rows; only rows with equal sums are compared.
    codes = (rows * _ODD[: rows.shape[1]]).sum(axis=1)
    _, inverse, counts = np.unique(codes, return_inverse=True, return_counts=True)
    suspects = np.flatnonzero(counts[inverse] > 1)
    if not len(suspects):
        return suspects
    _, first = np.unique(rows[suspects], axis=0, return_index=True)
    return np.delete(suspects, first)
