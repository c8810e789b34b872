"""Files without weights to load, recognized by their names: which file to give instead."""

import zipfile
from pathlib import Path

from setmatch.errors import WeightsError
from setmatch.files.reading import open_regular

# The runtime of each suffix that setmatch does not run.
RUNTIMES = {
    **dict.fromkeys((".engine", ".plan", ".trt"), "TensorRT"),
    **dict.fromkeys((".mlmodel", ".mlpackage"), "Core ML"),
    **dict.fromkeys((".h5", ".keras", ".hdf5"), "Keras"),
    **dict.fromkeys((".pb", ".tflite"), "TensorFlow"),
    ".param": "ncnn",
    ".ort": "ONNX Runtime Mobile",
    ".mnn": "MNN",
    ".rknn": "RKNN",
}
_IMAGES = {".jpg", ".jpeg", ".png", ".bmp", ".gif", ".webp", ".tif", ".tiff", ".heic", ".avif"}
_VIDEOS = {".mp4", ".mov", ".avi", ".mkv", ".webm"}
_PROTOCOLS = (b"\x80\x02", b"\x80\x03", b"\x80\x04", b"\x80\x05")
# By its suffix, what a part of a model has instead of it in the name of the file to give.
_MAIN = {".bin": ".xml", ".json": ".safetensors", ".data": "", ".weight": ""}


def refuse_other_file(path: Path) -> None:
    """Raise WeightsError for a file beside a model, of another runtime, or to detect in.

    It says what to give instead.
    """
    suffix = path.suffix.lower()
    if suffix in _IMAGES | _VIDEOS:
        what = "image" if suffix in _IMAGES else "video"
        raise WeightsError(
            f"{path}: this {what} is not a model; give the model first, then the {what}"
        )
    if suffix in RUNTIMES:
        raise WeightsError(
            f"{path}: a model of {RUNTIMES[suffix]}, which setmatch does not run; give the weights "
            "that it was made from, or a file that setmatch export wrote (.onnx, .xml, .pt2)"
        )
    if suffix not in _MAIN:
        return
    main = path.with_suffix(_MAIN[suffix])
    if main.is_file() and not _is_pickle(path):
        raise WeightsError(f"{path}: a part of {main.name}, which stands beside it; give that file")
    if suffix == ".bin" and not _is_pickle(path):
        raise WeightsError(
            f"{path}: no checkpoint of PyTorch; if it is the weights of an OpenVINO model, copy "
            f"{main.name} beside it, and give that file"
        )


def _is_pickle(path: Path) -> bool:
    """Return whether a file begins as torch.save writes it, now or before version 1.6."""
    try:
        with open_regular(path) as file:
            return file.read(2) in _PROTOCOLS or zipfile.is_zipfile(file)
    except OSError:  # which reading it says in full
        return True
