from . import engines as engines
from .video.frame import VideoFrame as VideoFrame
from .video.predict_video import predict_video as predict_video

__all__ = [
    "VideoFrame",
    "engines",
    "predict_video",
]
