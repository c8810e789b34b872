"""What several verbs take, each explained once; what one verb alone takes is explained there."""

from typing import Annotated, Literal

from cyclopts import Parameter

DataFormat = Literal["coco", "panoptic", "voc", "yolo"]

Data = Annotated[
    str,
    Parameter(help="Folder of a data set (COCO, YOLO, VOC), its data.yaml, or a COCO JSON file."),
]
Split = Annotated[str, Parameter(help="Which part of the data set.")]
Format = Annotated[
    DataFormat | None, Parameter(help="What the annotations are, where they could be several.")
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
