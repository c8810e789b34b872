"""Follow objects from frame to frame, by the library trackers of Roboflow; nothing needs torch."""

from collections import deque

import numpy as np

from setmatch.errors import ExtraMissingError
from setmatch.inference.video.frame import Track
from setmatch.structures.detection_arrays import DetectedBoxes

LOST_S = 1.0  # seconds without a detection, after which a track has ended
TRAIL_S = 2.0
_RATE_OF_BUFFER = 30  # frames a second, in which the library counts the time to wait
# Behind something, an object vanishes part by part: its box shrinks and seems to stop, and comes
# back elsewhere. Boxes are therefore compared with a margin around them, in parts of their sides.
# A larger one keeps more objects that were hidden, and confuses more that are beside each other.
_AROUND = 0.8
_LEAST_OVERLAP = 0.2  # intersection over union with where a track is expected, margins included


class Tracker:
    """The tracks of one video, by OC-SORT (Cao et al., 2023) with buffered boxes.

    A detection continues a track if it is where the motion of the track leads, or where it was seen
    last. `rate` is about how many frames there are in a second. Raises ExtraMissingError without
    trackers.
    """

    def __init__(self, rate: float) -> None:
        try:
            from trackers import BIoU, OCSORTTracker
        except ImportError:
            raise ExtraMissingError(
                "tracks need the library trackers, which is not installed; install it with: "
                "pip install 'setmatch[track]'"
            ) from None
        self._tracker = OCSORTTracker(
            lost_track_buffer=round(_RATE_OF_BUFFER * LOST_S),
            frame_rate=rate,
            minimum_consecutive_frames=1,  # after the first one, in which none has a number
            minimum_iou_threshold=_LEAST_OVERLAP,
            iou=BIoU(_AROUND),
        )
        self._trails: dict[int, deque[tuple[float, float, float]]] = {}  # seconds, x, y

    def update(self, found: DetectedBoxes, time_s: float) -> list[Track | None]:
        """Return the track of each detection in the next frame; None where one is seen first."""
        import supervision

        boxes = np.asarray(found.xyxy_px.tolist(), np.float32).reshape(-1, 4)
        numbers = {"number": np.arange(len(boxes))}
        tracked = self._tracker.update(
            supervision.Detections(xyxy=boxes, data=numbers), timestamp=time_s
        )
        tracks: list[Track | None] = [None] * len(boxes)
        # An empty result has no data.
        for number, id in zip(tracked.data.get("number", ()), tracked.tracker_id, strict=True):
            if id >= 0:
                x0, y0, x1, y1 = boxes[number].tolist()
                center_px = ((x0 + x1) / 2, (y0 + y1) / 2)
                tracks[number] = self._continued(int(id) + 1, center_px, time_s)
        self._forget_before(time_s - 2 * LOST_S)
        return tracks

    def _continued(self, id: int, center_px: tuple[float, float], time_s: float) -> Track:
        trail = self._trails.setdefault(id, deque())
        trail.append((time_s, *center_px))
        while trail[0][0] < time_s - TRAIL_S:
            trail.popleft()
        return Track(id, tuple((x, y) for _, x, y in trail))

    def _forget_before(self, time_s: float) -> None:
        """Forget the tracks that ended before `time_s`: a camera may run for months."""
        for id in [id for id, trail in self._trails.items() if trail[-1][0] < time_s]:
            del self._trails[id]
