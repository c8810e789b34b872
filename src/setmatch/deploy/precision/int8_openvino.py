"""Compute convolutions in int8 in OpenVINO, by NNCF's quantization after training.

Convolutions are most of a detector's arithmetic. Everything else stays in float32: attention and
the heads that predict boxes and scores need the precision.
"""

import contextlib
import importlib
import io
import logging
from collections.abc import Iterator
from typing import Any

from setmatch.data.dataset import DetectionDataset
from setmatch.deploy.precision.calibration import calibration_inputs
from setmatch.errors import ExtraMissingError
from setmatch.inference.engines.exported_card import ExportedCard
from setmatch.usage_reports import turn_off_reports

_IN_INT8 = {"Convolution", "GroupConvolution", "ConvolutionBackpropData"}
_NOT_COMPUTED = {"Parameter", "Constant", "Result"}
_LOGGERS = ("nncf", "torch.utils.cpp_extension")  # the second one says that it finds no GPU


def with_int8_convolutions(model: Any, exported: ExportedCard, images: DetectionDataset) -> Any:
    """Return a model of OpenVINO with convolutions in int8, and their weights stored in int8.

    The ranges of activations are those in some images of the training data. Raises
    ExtraMissingError without nncf.
    """
    nncf = nncf_library()
    with _quiet():
        inputs = list(calibration_inputs(exported, images))
        kinds = {each.get_type_name() for each in model.get_ops()}
        in_float = nncf.IgnoredScope(types=sorted(kinds - _IN_INT8 - _NOT_COMPUTED), validate=False)
        return nncf.quantize(
            model, nncf.Dataset(inputs), ignored_scope=in_float, subset_size=len(inputs)
        )


def nncf_library() -> Any:
    """Return the module nncf; raises ExtraMissingError without it."""
    turn_off_reports("nncf")
    try:
        with _quiet():
            return importlib.import_module("nncf")
    except ImportError:
        raise ExtraMissingError(
            "int8 for OpenVINO needs nncf; install it with: pip install 'setmatch[nncf]'"
        ) from None


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Silence NNCF's progress bars, and what it and PyTorch log as it is imported."""
    loggers = [logging.getLogger(name) for name in _LOGGERS]
    levels = [each.level for each in loggers]
    try:
        for each in loggers:
            each.setLevel(logging.ERROR)
        with contextlib.redirect_stdout(io.StringIO()):
            yield
    finally:
        for each, level in zip(loggers, levels, strict=True):
            each.setLevel(level)
