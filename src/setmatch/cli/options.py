"""What several verbs take, each explained once; what one verb alone takes is explained there."""

from typing import Annotated, Literal

from cyclopts import Parameter

from setmatch.data.formats.registry import format_names

Data = Annotated[
    str,
    Parameter(help="Folder of a data set (COCO, YOLO, VOC), its data.yaml, or a COCO JSON file."),
]
Split = Annotated[str, Parameter(help="Which part of the data set.")]


def _known_format(kind: object, name: str | None) -> None:
    if name is not None and name not in format_names():
        raise ValueError(f"unknown format {name!r}; choose one of {', '.join(format_names())}")


Format = Annotated[
    str | None,
    Parameter(
        help=f"Format of the annotations: {', '.join(format_names())}. Detected if not given.",
        validator=_known_format,
    ),
]
Model = Annotated[str, Parameter(help="Published name, hub id, run folder or file.")]
Settings = Annotated[
    tuple[str, ...],
    Parameter(
        name="--set",
        negative="",
        help="Change one setting of the recipe, as in --set train.lr=1e-4. May be repeated.",
    ),
]
BatchSize = Annotated[int, Parameter(help="Images at once; the answers do not depend on it.")]
Workers = Annotated[
    int | Literal["auto"],
    Parameter(help='Processes that read images; "auto" follows the machine, as in training.'),
]
Device = Annotated[str, Parameter(help='"auto", "cpu", "cuda" or "cuda:1".')]
Switch = Annotated[bool, Parameter(negative="")]
