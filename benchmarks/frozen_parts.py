"""Fine-tune to other classes: from random weights, with frozen parts, and all of the model.

A model learns three classes of generated scenes, then a small set with three other classes and one
that it knows. `python benchmarks/frozen_parts.py --out DIR` trains everything and prints a table.
"""

import argparse
import json
from pathlib import Path
from typing import Any

import setmatch as sm
from setmatch.data.synthetic.scenes import Difficulty, write_scenes
from setmatch.training.checkpoints.best import Run

KNOWN = ("circle", "square", "triangle")
NEW = ("star", "cross", "ring", "circle")  # the last one is known
ARMS = {
    "random weights": ("none", "none"),
    "frozen encoder": (None, "encoder"),
    "frozen backbone": (None, "backbone"),
    "nothing frozen": (None, "none"),
}
SIDE_PX = 128
SETTINGS = (
    f"data.short_side_px={SIDE_PX}",
    f"data.long_side_px={SIDE_PX}",
    "data.workers=0",
    "data.strong_augment_from_epoch=0",
    "model.num_queries=30",
    "train.precision=float32",
)


def main() -> None:
    """Train the first model, then each arm with each seed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--scenes", type=int, default=1000)
    parser.add_argument("--few", type=int, default=64, help="training images of the new classes")
    parser.add_argument("--first-epochs", type=int, default=4)
    parser.add_argument("--epochs", type=int, default=16)
    parser.add_argument("--seeds", type=int, default=1)
    options = parser.parse_args()
    first = _train(options.out / "first", KNOWN, options.scenes, options.first_epochs, "none")
    print(f"first model, its own classes: AP {100 * _metrics(first)['AP']:.1f}")
    rows = {
        arm: [_tune(options, first, arm, weights, freeze, seed) for seed in range(options.seeds)]
        for arm, (weights, freeze) in ARMS.items()
    }
    (options.out / "frozen_parts.json").write_text(json.dumps(rows, indent=1))
    print(json.dumps(rows, indent=1))


def _tune(
    options: argparse.Namespace,
    first: Run,
    arm: str,
    weights: str | None,
    freeze: str,
    seed: int,
) -> dict[str, float]:
    run = _train(
        options.out / f"{arm.replace(' ', '_')}_{seed}",
        NEW,
        options.few,
        options.epochs,
        str(first.folder) if weights is None else weights,
        f"train.freeze={freeze}",
        f"train.seed={seed}",
    )
    rows = [json.loads(line) for line in (run.folder / "log.jsonl").read_text().splitlines()]
    per_class = _metrics(run)["per_class"]
    return {
        "AP": _metrics(run)["AP"],
        "AP of the known class": per_class["circle"]["AP"],
        "first AP": next(row["AP"] for row in rows if row["kind"] == "val"),
        "seconds": rows[-1]["seconds"],
    }


def _metrics(run: Run) -> dict[str, Any]:
    assert run.best is not None, "the run was evaluated"
    return run.best


def _train(
    out: Path, classes: tuple[str, ...], scenes: int, epochs: int, weights: str, *settings: str
) -> Run:
    data = out.parent / f"data_{'_'.join(classes)}_{scenes}"
    if not data.exists():
        write_scenes(data, scenes, 200, SIDE_PX, len(classes), 0, Difficulty(classes=classes))
    return sm.train(
        data,
        model="setmatch_n",
        out=out,
        weights=weights,
        epochs=epochs,
        overrides=(*SETTINGS, f"train.evaluate_every={max(epochs // 8, 1)}", *settings),
        device="cpu",
        resume=True,
    )


if __name__ == "__main__":
    main()
