from .base import Engine as Engine
from .eager import EagerEngine as EagerEngine
from .eager import as_engine as as_engine
from .eager import evaluation_copy as evaluation_copy
from .onnxruntime import OnnxRuntimeEngine as OnnxRuntimeEngine

__all__ = [
    "EagerEngine",
    "Engine",
    "OnnxRuntimeEngine",
    "as_engine",
    "evaluation_copy",
]
