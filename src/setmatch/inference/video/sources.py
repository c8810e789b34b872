"""What a video comes from, and which of the sources that a user names are videos."""

import os
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal
from urllib.parse import urlsplit
from urllib.request import url2pathname

from setmatch.data.images.image_paths import SUFFIXES, files_of
from setmatch.files.reading import open_regular

VIDEO_SUFFIXES = (
    *(".mp4", ".m4v", ".mov", ".avi", ".mkv", ".webm", ".mpg", ".mpeg", ".wmv", ".flv", ".f4v"),
    *(".3gp", ".3g2", ".ogv", ".mts", ".m2ts", ".vob", ".mxf", ".asf", ".divx", ".y4m", ".ivf"),
    *(".264", ".h264", ".265", ".h265", ".hevc", ".mjpeg", ".mjpg", ".m2v"),
)
# ".ts" is also that of TypeScript, so that it counts only for a file that is named directly.
_NAMED_DIRECTLY = (*VIDEO_SUFFIXES, ".ts")
_ADDRESS = re.compile(r"[a-z][a-z0-9+.-]+://", re.IGNORECASE)
_SIGNATURE_BYTES = 189
_BOXES = (b"moov", b"mdat", b"wide", b"skip", b"free", b"pnot")  # of QuickTime without "ftyp"
_STILL_BRANDS = (  # files like MP4 that hold images
    *(b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"mif1", b"msf1", b"avif", b"avis"),
    *(b"crx ", b"jpeg"),
)
_VIDEO_STARTS = (
    *(b"\x1aE\xdf\xa3", b"FLV\x01", b"OggS", b"0&\xb2u", b"\0\0\1\xba", b"\0\0\1\xb3"),
    *(b"YUV4MPEG2 ", b"DKIF"),
)

Kind = Literal["file", "pipe", "camera", "stream"]


@dataclass(frozen=True)
class VideoSource:
    """A video: a file, a pipe, a camera (by its number or device) or the address of a stream."""

    address: str
    kind: Kind

    @property
    def name(self) -> str:
        """What messages and results call it: an address without user, password and query."""
        if self.kind == "camera":
            return f"camera {self.address}"
        if self.kind != "stream":
            return self.address
        parts = urlsplit(self.address)
        return parts._replace(
            netloc=parts.netloc.rpartition("@")[2], query="", fragment=""
        ).geturl()

    @property
    def file_name(self) -> str:
        """A name for files of results, without a folder and a suffix."""
        if self.kind in ("file", "pipe"):
            return Path(self.address).name
        return re.sub(r"[^\w.-]+", "_", _ADDRESS.sub("", self.name)).strip("_.")[:100] or "video"


def local_path(source: str | Path) -> str | Path:
    """Return the path in an address of a file of this machine; else the source."""
    parts = urlsplit(str(source))
    if parts.scheme.lower() != "file":
        return source
    return url2pathname(parts.path) if parts.netloc.lower() in ("", "localhost") else source


def as_video(source: str | Path | int) -> VideoSource:
    """Return what a path, the number of a camera, or an address stands for."""
    text = str(local_path(str(source)))
    if _ADDRESS.match(text):
        return VideoSource(text, "stream")
    path = Path(text)
    if path.is_fifo():
        return VideoSource(text, "pipe")
    if (text.isdecimal() and not path.exists()) or path.is_char_device():
        return VideoSource(text, "camera")
    return VideoSource(text, "file")


def split_sources(sources: Sequence[str | Path]) -> tuple[list[str | Path], list[VideoSource]]:
    """Return the image files and the videos among files, folders, globs, cameras and addresses.

    For a file that is named directly its content decides, and its suffix where the content shows
    nothing; in folders and globs the suffix. Raises DataError for a source that does not exist or
    cannot be listed. A source without any image or video is returned as it is, among the images.
    """
    images: dict[str | Path, None] = {}
    videos: dict[VideoSource, None] = {}
    for given in sources:
        source = local_path(given)
        path, video = Path(source), as_video(source)
        if path.is_dir() or (video.kind == "file" and not os.path.lexists(path)):
            found = files_of(source, (*SUFFIXES, *VIDEO_SUFFIXES))
            clips = [each for each in found if each.suffix.lower() in VIDEO_SUFFIXES]
            videos.update((VideoSource(str(each), "file"), None) for each in clips)
            stills = [each for each in found if each.suffix.lower() not in VIDEO_SUFFIXES]
            images.update(dict.fromkeys(stills if found else [source]))
        elif is_video_file(path) if video.kind == "file" else not _is_image_name(video):
            videos[video] = None
        else:
            images[source] = None
    return list(images), list(videos)


def is_video_file(path: Path) -> bool:
    """Return whether an existing file holds a video, by its first bytes, else by its suffix."""
    try:
        with open_regular(path) as file:
            start = file.read(_SIGNATURE_BYTES)
    except OSError:
        start = b""
    by_content = _is_video(start)
    return path.suffix.lower() in _NAMED_DIRECTLY if by_content is None else by_content


def _is_video(start: bytes) -> bool | None:
    """Return whether a file that starts with these bytes is a video; None if they do not tell."""
    if start[4:8] == b"ftyp":
        return start[8:12].lower() not in _STILL_BRANDS
    is_transport = len(start) == _SIGNATURE_BYTES and start[0] == start[188] == 0x47
    is_avi = start.startswith(b"RIFF") and start[8:12] == b"AVI "
    is_quicktime = start[4:8] in _BOXES
    return (
        True if is_transport or is_avi or is_quicktime or start.startswith(_VIDEO_STARTS) else None
    )


def _is_image_name(video: VideoSource) -> bool:
    """Return whether a pipe or device is called an image, which is refused and never opened."""
    return video.kind != "stream" and Path(video.address).suffix.lower() in SUFFIXES
