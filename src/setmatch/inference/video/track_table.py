"""A table of tracks: what each was, and from when to when it was seen where."""

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from setmatch.inference.video.frame import VideoFrame
from setmatch.inference.video.tracker import LOST_S

COLUMNS = (
    *("file_name", "track", "category", "frames", "first_s", "last_s", "mean_score"),
    *("first_x", "first_y", "last_x", "last_y"),
)
_OVER_S = 2 * LOST_S  # without a detection, after which a track does not come back


@dataclass
class _Row:
    """What is known of a track; x and y are of the center of its box, in pixels."""

    first_s: float
    first_px: tuple[float, float]
    last_s: float = 0.0
    last_px: tuple[float, float] = (0.0, 0.0)
    scores: float = 0.0
    classes: Counter[str] = field(default_factory=Counter)


class TrackTable:
    """The tracks of one video; each row is handed to `write` when its track is over."""

    def __init__(self, file_name: str, write: Callable[[tuple[object, ...]], None]) -> None:
        self.count = 0
        self._file_name, self._write = file_name, write
        self._rows: dict[int, _Row] = {}

    def add(self, frame: VideoFrame[Any]) -> None:
        """Add what is seen in the next frame."""
        found, tracks = frame.detections, frame.tracks or ()
        names = map(found.categories.name, found.classes.tolist())
        for name, score, track in zip(names, found.scores.tolist(), tracks, strict=True):
            if track is None:
                continue
            if track.id not in self._rows:
                self._rows[track.id] = _Row(frame.time_s, track.trail_px[-1])
                self.count += 1
            row = self._rows[track.id]
            row.last_s, row.last_px = frame.time_s, track.trail_px[-1]
            row.scores += score
            row.classes[name] += 1
        over = [id for id, row in self._rows.items() if row.last_s < frame.time_s - _OVER_S]
        self._finish(over)

    def close(self) -> None:
        """Hand over the tracks that last to the end of the video."""
        self._finish(list(self._rows))

    def _finish(self, ids: list[int]) -> None:
        for id in ids:
            row = self._rows.pop(id)
            ((category, _),) = row.classes.most_common(1)
            frames = row.classes.total()
            places = (round(each, 1) for each in (*row.first_px, *row.last_px))
            times = (round(row.first_s, 3), round(row.last_s, 3))
            mean = round(row.scores / frames, 4)
            self._write((self._file_name, id, category, frames, *times, mean, *places))
