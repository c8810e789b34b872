"""Ablation of setmatch_n: remove or add one ingredient at a time, with equal training time.

Every arm is the recipe of `setmatch_n` with one or two changes, trained for the same minutes with
several seeds. The same command resumes an interrupted ablation. Parts without a setting are
exchanged in exchanged.py. On a shared machine, give every arm the same CPU time:

    python benchmarks/candidates/cpu_clock.py benchmarks/ingredients.py OUT --data FOLDER
"""

import argparse
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from rich.console import Console

from exchanged import register
from setmatch.ablation.run import ablate
from setmatch.ablation.studies import Arm, Study

UNCHANGED = "setmatch_n as it is"
# Trained weights do not fit models with exchanged parts.
COMMON = ("data.workers=0", "model.init_weights=none")


def _preset(name: str, part: str) -> Arm:
    return Arm(name, (f"model.preset=setmatch_n_{part}",))


def _adamw(rate: str) -> Arm:
    rates = (f"train.lr={rate}", f"train.backbone_lr={rate}")
    return Arm(f"AdamW {rate} instead of Muon", ("train.muon_lr=0", *rates))


INGREDIENTS = Study(
    "ingredients",
    "setmatch_n without one of its ingredients",
    (
        Arm(UNCHANGED),
        _preset("no denoising", "no_denoising"),
        _preset("no box refinement", "no_box_refinement"),
        _preset("learned queries instead of top-k", "learned_queries"),
        _preset("queries without local peaks", "no_local_peaks"),
        _preset("no box relations between queries", "no_box_relations"),
        _preset("no fusion of feature levels", "no_fusion"),
        Arm("no attention in the encoder", ("model.arguments.encoder_layers=0",)),
        _preset("focal instead of varifocal", "focal"),
        Arm("no EMA of the weights", ("train.ema_decay=0",)),
        Arm("no auxiliary losses", ("loss.auxiliary=false",)),
        Arm("no GIoU", ("loss.giou=0", "matching.giou=0")),
        Arm("no L1", ("loss.l1=0", "matching.l1=0")),
        *map(_adamw, ("5e-4", "1e-3", "2e-3", "4e-3", "8e-3", "1.6e-2")),
        Arm("float32", ("train.precision=float32",)),
        Arm("drop instead of cosine schedule", ("train.schedule=drop",)),
        Arm("no augmentation", ("data.augment=none",)),
        Arm("flips only", ("data.augment=flip",)),
        Arm("no progressive resizing", ("train.full_size_at=0",)),
        Arm("weight decay of 1e-4", ("train.weight_decay=1e-4",)),
        Arm("fixed number of queries", ("model.num_queries=null",)),
    ),
    UNCHANGED,
)
ADDITIONS = Study(
    "additions",
    "setmatch_n with an ingredient that others have",
    (
        Arm(UNCHANGED),
        _preset("boxes from distributions", "distributions"),
        _preset("boxes from distributions that have a loss", "fine_grained"),
        _preset("one-to-many matching in the encoder", "many_in_encoder"),
        _preset("one-to-many matching beside the queries", "many_beside"),
        _preset("mosaic for half of the images", "mosaic"),
        Arm(
            "mosaic, 120 queries",
            ("model.preset=setmatch_n_mosaic", "model.arguments.num_queries=120"),
        ),
    ),
    UNCHANGED,
)
LEVELS = Study(
    "amounts",
    "setmatch_n with more or less of an ingredient",
    (
        Arm(UNCHANGED),
        *(Arm(f"{n} decoder layer(s)", (f"model.arguments.decoder_layers={n}",)) for n in (1, 3)),
        *(Arm(f"{n} points", (f"model.arguments.points={n}",)) for n in (2, 8)),
        *(
            Arm(f"{n} denoising queries", (f"model.arguments.denoising_queries={n}",))
            for n in (24, 96)
        ),
        *(Arm(f"Muon {rate}", (f"train.muon_lr={rate}",)) for rate in (0.01, 0.02, 0.05)),
        *(Arm(f"EMA decay of {decay}", (f"train.ema_decay={decay}",)) for decay in (0.99, 0.9995)),
        *(Arm(f"batch size {n}", (f"train.batch_size={n}",)) for n in (8, 32, 64)),
    ),
    UNCHANGED,
)
STUDIES = {study.name: study for study in (INGREDIENTS, ADDITIONS, LEVELS)}


def _only(names: Sequence[str] | None, study: Study) -> Study:
    """Return the study with the named arms and the reference."""
    if names is None:
        return study
    if unknown := set(names) - {arm.name for arm in study.arms}:
        raise SystemExit(f"{study.name} has no {', '.join(sorted(unknown))}")
    arms = tuple(arm for arm in study.arms if arm.name in {study.reference, *names})
    return replace(study, arms=arms)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("out", type=Path, help="folder of the ablation")
    parser.add_argument("--data", type=Path, help="default: easy generated scenes")
    parser.add_argument("--study", nargs="*", choices=STUDIES, default=["ingredients"])
    parser.add_argument("--arms", nargs="*", help="only these arms of the studies")
    parser.add_argument("--minutes", type=float, default=5)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--set", nargs="*", default=[], help="settings that all arms share")
    parser.add_argument("--report-only", action="store_true", help="train nothing")
    options = parser.parse_args()
    register()
    studies = [_only(options.arms, STUDIES[name]) for name in options.study]
    # All arms with one seed first, so an interrupted ablation is already useful.
    for seeds in range(1, options.seeds + 1):
        ablation = ablate(
            studies,
            out=options.out,
            data=options.data,
            recipe="setmatch_n",
            overrides=[f"train.minutes={options.minutes:g}", *COMMON, *options.set],
            seeds=options.seeds if options.report_only else seeds,
            report_only=options.report_only,
        )
    for table in ablation.tables():
        Console().print(table.to_rich())


if __name__ == "__main__":
    main()
