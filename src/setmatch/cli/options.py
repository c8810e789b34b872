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
        help="How the annotations write boxes, if their format's usual way does not apply: xywh, "
        "xyxy (corners), yxyx (corners, y first) or cxcywh (center and size); pixels, relative "
        "(fractions of the image), percent or thousandths. For YOLO rows with more than five "
        "numbers: polygons or keypoints. Combine with commas, as in xyxy,relative. "
        "`setmatch audit` says whether you need it."
    ),
]
Model = Annotated[
    str,
    Parameter(
        help="Trained model: a run folder, a weights file, a name with weights (see `setmatch "
        "models`), or a hub id. It is the first argument, or the value of --model."
    ),
]
TrainedModel = Annotated[
    str | None,
    Parameter(
        help="Model to train: a preset (see `setmatch models`), or a function of your own as "
        "package.module:factory. Defaults to the preset of --recipe or --weights, otherwise "
        "setmatch_n (with masks, setmatch_n_panoptic). Uses the recipe of the same name, if any."
    ),
]
Weights = Annotated[
    str | None,
    Parameter(
        help='Initial weights: a published name, a run folder, a weights file, "imagenet" '
        '(backbone only) or "none" (random). Defaults to what the recipe says.'
    ),
]
Threshold = Annotated[
    float | Literal["best"] | None,
    Parameter(
        help="Minimum score (confidence) of a detection. Defaults to 0.7 for detr_* models and 0.5 "
        'for all others. "best" uses, for each class, the threshold with the highest F1 on the '
        "validation split."
    ),
]
SegmentThreshold = Annotated[
    float | None,
    Parameter(help="Minimum score of a segment in panoptic results. Defaults to the model's own."),
]
Rounds = Annotated[
    int, Parameter(help="Number of times each model is timed, in turn. The result is the median.")
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
        help="Also detect in overlapping tiles of large images, each this many pixels wide and "
        "high, or auto for the model's own image size. Use it for small objects in large images.",
    ),
]
Overlap = Annotated[float, Parameter(help="Overlap of neighboring tiles, as a fraction.")]
BatchSize = Annotated[int, Parameter(help="Images per batch. Does not change the results.")]
Workers = Annotated[
    int | Literal["auto"],
    Parameter(
        show_choices=False,
        help="Number of processes that read images, or auto to suit this machine.",
    ),
]
EngineName = Annotated[
    Literal["auto", "eager", "compiled", "onnxruntime", "openvino"] | None,
    Parameter(
        help="What runs the model. eager is PyTorch itself, which runs weights by default; "
        "onnxruntime, openvino and compiled run on the CPU, from a file that is exported and "
        "verified on first use; auto measures all installed ones once and takes the fastest."
    ),
]
Device = Annotated[str, Parameter(help="Device to run on: auto, cpu, cuda, or one GPU as cuda:1.")]
Required = Parameter(required=True)  # of arguments that may be repeated: at least one
Switch = Annotated[bool, Parameter(negative="", show_default=False)]
Repeatable = Parameter(negative="", show_default=False)
