"""Options that several verbs share; an option of one verb is explained in that verb's file."""

from typing import Annotated, Literal

from cyclopts import Parameter

Data = Annotated[
    str,
    Parameter(
        help="Data set: a folder in COCO, YOLO or Pascal VOC layout, a YOLO data.yaml, or a COCO "
        "JSON file."
    ),
]
Split = Annotated[str, Parameter(help="Split to use: train, val, test, or a name of your own.")]
# A plain string: the formats are listed in one place, data.formats, which checks the name.
Format = Annotated[
    str | None,
    Parameter(
        help="Annotation format: coco, panoptic, yolo or voc. Needed only if the data set has "
        "annotations in several formats."
    ),
]
# A plain string, too: the words are listed in data.box_convention, which explains a wrong one.
Boxes = Annotated[
    str | None,
    Parameter(
        help="How the annotations write boxes, if not as their format does: xywh, xyxy (corners) "
        "or cxcywh (centers); relative (fractions of the image), percent or pixels; for YOLO's "
        "longer rows polygons or keypoints. Joined by commas, as in xyxy,relative. `setmatch "
        "audit` says whether it is needed."
    ),
]
Model = Annotated[
    str,
    Parameter(
        help="Trained model: a run folder, a weights file, a name with weights (see `setmatch "
        "models`), or a hub id. Comes first, or as --model."
    ),
]
Settings = Annotated[
    tuple[str, ...],
    Parameter(
        name="--set",
        negative="",
        show_default=False,
        help="Change one recipe setting, for example --set train.lr=1e-4. Repeatable.",
    ),
]
Tiles = Annotated[
    int | Literal["auto"] | None,
    Parameter(
        show_choices=False,
        help="Also see the parts of large images, in tiles of this many pixels a side; auto: as "
        "large as the images that the model takes. For small objects in large images.",
    ),
]
Overlap = Annotated[float, Parameter(help="Fraction of its side that a tile shares with the next.")]
BatchSize = Annotated[int, Parameter(help="Images per batch. Does not change the results.")]
Workers = Annotated[
    int | Literal["auto"],
    Parameter(
        show_choices=False,
        help="Processes that read images: a number, or auto to suit this machine.",
    ),
]
EngineName = Annotated[
    Literal["auto", "eager", "compiled", "onnxruntime", "openvino"] | None,
    Parameter(
        help="What runs the model: eager is PyTorch itself, the default; onnxruntime, openvino and "
        "compiled code run on the CPU, from a file that is written and verified once; auto is the "
        "fastest that is installed, measured once."
    ),
]
Device = Annotated[str, Parameter(help="Device to run on: auto, cpu, cuda, or one GPU as cuda:1.")]
Switch = Annotated[bool, Parameter(negative="", show_default=False)]
Repeatable = Parameter(negative="", show_default=False)
