"""The detections in a frame of a video, and its tracks; nothing here needs torch."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Generic, Protocol, TypeVar, runtime_checkable

from PIL import Image

from setmatch.structures.detection_arrays import DetectedBoxes
from setmatch.visualize.labels import ColorBy
from setmatch.visualize.trails import draw_trails


@runtime_checkable
class FrameDetections(DetectedBoxes, Protocol):
    """The detections in a frame, with its pixels."""

    @property
    def size_px(self) -> tuple[int, int]:
        """Height and width of the frame."""

    def draw(
        self,
        labels: bool | Sequence[str] = True,
        *,
        color_by: ColorBy | Sequence[int] = "class",
    ) -> Image.Image:
        """Return the frame with everything drawn on it."""

    def to_dicts(self) -> list[dict[str, Any]]:
        """Return the detections as dictionaries of COCO results."""


AnyDetections = TypeVar("AnyDetections", bound=FrameDetections)


@dataclass(frozen=True)
class Track:
    """An object that is followed: its number, from 1, and where its box was centered lately.

    `trail_px` are x and y in pixels of the last two seconds, this frame's last.
    """

    id: int
    trail_px: tuple[tuple[float, float], ...] = ()


@dataclass(frozen=True)
class VideoFrame(Generic[AnyDetections]):
    """A frame of a video, with the detections in it.

    `index` counts the frames of the video from 0, also those left out; `time_s` is in seconds
    since the beginning. `tracks` has a track for each detection, None for one that was not seen
    before; it is None itself unless tracks were asked for.
    """

    index: int
    time_s: float
    detections: AnyDetections
    tracks: Sequence[Track | None] | None = None

    @property
    def track_ids(self) -> list[int | None]:
        """The number of each detection's track; None for each without one."""
        if self.tracks is None:
            return [None] * len(self.detections.scores.tolist())
        return [None if each is None else each.id for each in self.tracks]

    def draw(self) -> Image.Image:
        """Return the frame with its detections drawn on it, as an RGB Pillow image.

        Tracks have a color each, their number and a line of where they were.
        """
        if self.tracks is None:
            return self.detections.draw()
        names, scores = self.detections.categories.name, self.detections.scores.tolist()
        labels, kinds = [], []
        for class_index, score, track in zip(
            self.detections.classes.tolist(), scores, self.tracks, strict=True
        ):
            number = "" if track is None else f" #{track.id}"
            labels.append(f"{names(class_index)}{number} {score:.0%}")
            kinds.append(0 if track is None else track.id)
        image = self.detections.draw(labels, color_by=kinds)
        trails = {track.id: track.trail_px for track in self.tracks if track is not None}
        return draw_trails(image, trails)

    def to_dict(self) -> dict[str, Any]:
        """Return a dictionary for JSON: number, time, size, and detections as in COCO results."""
        rows = self.detections.to_dicts()
        if self.tracks is not None:
            rows = [row | {"track": id} for row, id in zip(rows, self.track_ids, strict=True)]
        height, width = self.detections.size_px
        time_s = round(self.time_s, 6)
        size = {"width": width, "height": height}
        return {"frame": self.index, "time_s": time_s, **size, "detections": rows}
