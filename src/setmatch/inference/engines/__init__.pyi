from .base import Engine as Engine
from .eager import EagerEngine as EagerEngine
from .eager import as_engine as as_engine
from .eager import inference_mode as inference_mode

__all__ = [
    "EagerEngine",
    "Engine",
    "as_engine",
    "inference_mode",
]
