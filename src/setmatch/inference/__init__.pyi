from . import engines as engines
from .video.frame import VideoFrame as VideoFrame

__all__ = [
    "VideoFrame",
    "engines",
]
