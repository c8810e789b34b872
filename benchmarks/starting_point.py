"""Train the initial weights of setmatch_n on generated shapes, half of them in landscapes.

    python benchmarks/candidates/cpu_clock.py benchmarks/starting_point.py OUT --minutes 20

The images are not those of the demo: backgrounds from plain to landscape, shapes from small to
nearly image-filling. The weights are written to OUT/run; `setmatch convert-weights OUT/run --to
setmatch-small` makes the bundled file.
"""

import argparse
import json
from pathlib import Path
from typing import Any

import setmatch as sm
from setmatch.data.synthetic.scenes import Difficulty, write_scenes

SIDE_PX, SEED = 160, 1000  # the demo uses seeds from 0 on
WIDE = Difficulty(radius=(0.055, 0.42))
KINDS = {"ground": False, "landscape": True}


def generate(out: Path, train: int, val: int) -> Path:
    """Return the data set of both kinds; generate it if it does not exist."""
    merged = out / "data"
    if (merged / "val.json").exists():
        return merged
    for number, (kind, panoptic) in enumerate(KINDS.items()):
        folder = merged / kind
        write_scenes(folder, train, val, SIDE_PX, SEED + number, 1, WIDE, panoptic)
    for split in ("train", "val"):
        (merged / f"{split}.json").write_text(json.dumps(_merged(merged, split)))
    return merged


def _merged(folder: Path, split: str) -> dict[str, Any]:
    trees = {
        kind: json.loads((folder / kind / "annotations" / f"{split}.json").read_text())
        for kind in KINDS
    }
    images: list[dict[str, Any]] = []
    annotations: list[dict[str, Any]] = []
    for kind, tree in trees.items():
        first, further = len(images), len(annotations)
        number = {image["id"]: first + row for row, image in enumerate(tree["images"])}
        for image in tree["images"]:
            name = f"{kind}/images/{image['file_name']}"
            images.append(image | {"id": number[image["id"]], "file_name": name})
        for row, each in enumerate(tree["annotations"]):
            each.pop("segmentation", None)
            annotations.append(
                each | {"id": further + row + 1, "image_id": number[each["image_id"]]}
            )
    categories = trees["ground"]["categories"]
    assert all(tree["categories"][: len(categories)] == categories for tree in trees.values())
    return {"images": images, "annotations": annotations, "categories": categories}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("out", type=Path)
    parser.add_argument("--minutes", type=float, default=20)
    parser.add_argument("--train", type=int, default=10_000, help="images of each kind")
    parser.add_argument("--val", type=int, default=100)
    options = parser.parse_args()
    sm.train(
        generate(options.out, options.train, options.val),
        "setmatch_n",
        out=options.out / "run",
        weights="none",
        overrides=["data.workers=0"],
        minutes=options.minutes,
        resume=True,
    )


if __name__ == "__main__":
    main()
