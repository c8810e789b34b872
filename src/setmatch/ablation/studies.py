"""The built-in studies: arms that change one recipe, with the paper's AP.

Published numbers are from arXiv 2005.12872: DETR with ResNet-50 on COCO val 2017.
"""

from dataclasses import dataclass

from setmatch.errors import ConfigError, suggest


@dataclass(frozen=True)
class Arm:
    """One experiment: its changes to the recipe, and the AP that the paper reports."""

    name: str
    overrides: tuple[str, ...] = ()
    published: float | None = None


@dataclass(frozen=True)
class Study:
    """Arms that differ in one aspect; the others are compared with the arm named `reference`."""

    name: str
    about: str
    arms: tuple[Arm, ...]
    reference: str
    source: str = ""


def _argument(key: str, value: object) -> tuple[str, ...]:
    return (f"model.arguments.{key}={value}",)


# Table 4 removes terms from both the matching cost and the loss.
_NO_GIOU = ("loss.giou=0", "matching.giou=0")
_NO_L1 = ("loss.l1=0", "matching.l1=0")

STUDIES = {
    study.name: study
    for study in (
        Study(
            "encoder",
            "encoder layers",
            tuple(
                Arm(str(layers), _argument("encoder_layers", layers), published)
                for layers, published in ((0, 36.7), (3, 40.1), (6, 40.6), (12, 41.6))
            ),
            "6",
            "table 2",
        ),
        Study(
            "decoder",
            "decoder layers",
            tuple(Arm(str(layers), _argument("decoder_layers", layers)) for layers in (1, 2, 3, 6)),
            "6",
        ),
        Study(
            "position",
            "where position encodings are added",
            tuple(
                Arm(name, _argument("position", choice), published)
                for name, choice, published in (
                    ("none", "none", 32.8),
                    ("sine at input", "sine_at_input", 39.2),
                    ("learned at attention", "learned", 39.6),
                    ("sine in decoder only", "sine_in_decoder", 39.3),
                    ("sine at attention", "sine", 40.6),
                )
            ),
            "sine at attention",
            "table 3",
        ),
        Study(
            "losses",
            "terms of the box loss and of the matching cost",
            (
                Arm("class + L1", _NO_GIOU, 35.8),
                Arm("class + GIoU", _NO_L1, 39.9),
                Arm("class + L1 + GIoU", (), 40.6),
            ),
            "class + L1 + GIoU",
            "table 4",
        ),
        Study(
            "ffn",
            "feed-forward networks in the transformer",
            (
                Arm("without", _argument("ffn", "none"), 38.3),  # section 4.2: 2.3 less
                Arm("with", _argument("ffn", "relu"), 40.6),
            ),
            "with",
            "section 4.2",
        ),
        Study(
            "auxiliary",
            "losses of every decoder layer, or of the last only",
            (Arm("last layer alone", ("loss.auxiliary=false",)), Arm("every layer")),
            "every layer",
        ),
        Study(
            "no_object",
            "weight of the no-object class",
            tuple(
                Arm(str(weight), _argument("no_object_weight", weight))
                for weight in (0.05, 0.1, 0.4, 1.0)
            ),
            "0.1",
        ),
    )
}


def find_study(name: str) -> Study:
    """Return a built-in study. Raises ConfigError with the closest name if it does not exist."""
    if name not in STUDIES:
        raise ConfigError(f"study {name}: no such study; {suggest(name, STUDIES)}")
    return STUDIES[name]
