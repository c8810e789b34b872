"""Compute convolutions in int8, by ONNX Runtime's static quantization.

Convolutions are most of a detector's arithmetic. Everything else stays in float32: attention and
the heads that predict boxes and scores need the precision.
"""

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from setmatch.data.dataset import DetectionDataset
from setmatch.deploy.precision.calibration import calibration_inputs
from setmatch.deploy.precision.smaller_weights import with_smaller_weights
from setmatch.inference.engines.onnx_session import OnnxSession, onnxruntime_library

if TYPE_CHECKING:
    import numpy as np
    import onnx


def with_int8_convolutions(path: Path, images: DetectionDataset) -> "onnx.ModelProto":
    """Return the graph of a file with convolutions in int8, and all other weights stored in int8.

    The ranges of activations are those in some images of the training data. Weights use 7 bits,
    because processors without VNNI add up pairs of products of 8 bits in 16, which may overflow.
    """
    import onnx

    onnxruntime_library("int8 needs onnxruntime")
    from onnxruntime.quantization import QuantFormat, QuantType, quantize_static

    model = onnx.load(str(path))
    quantized = path.with_suffix(".int8.onnx")
    with _quiet():
        quantize_static(
            str(path),
            str(quantized),
            _Calibration(path, images),
            quant_format=QuantFormat.QDQ,
            op_types_to_quantize=["Conv"],
            per_channel=True,
            reduce_range=True,
            activation_type=QuantType.QUInt8,
            weight_type=QuantType.QInt8,
        )
    made = onnx.load(str(quantized))
    quantized.unlink()
    onnx.helper.set_model_props(made, {each.key: each.value for each in model.metadata_props})
    made.producer_name, made.producer_version = model.producer_name, model.producer_version
    return with_smaller_weights(made, "int8")


class _Calibration:
    """Gives ONNX Runtime one image after another, as the graph takes them."""

    def __init__(self, path: Path, images: DetectionDataset) -> None:
        self._inputs = calibration_inputs(OnnxSession(path).exported, images)

    def get_next(self) -> "dict[str, np.ndarray] | None":
        """Return the inputs for the next image; None after the last one."""
        return next(self._inputs, None)


@contextmanager
def _quiet() -> Iterator[None]:
    """Silence ONNX Runtime's advice to simplify the graph first."""
    logger: Any = logging.getLogger()
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        logger.setLevel(level)
