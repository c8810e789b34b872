from .base import Engine as Engine
from .eager import EagerEngine as EagerEngine
from .eager import as_engine as as_engine
from .eager import evaluation_copy as evaluation_copy

__all__ = [
    "EagerEngine",
    "Engine",
    "as_engine",
    "evaluation_copy",
]
