"""Write what is found in videos to a folder: drawn videos, a line a frame, a row a track."""

import json
import os
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass, field
from functools import partial
from itertools import chain
from math import ceil
from pathlib import Path
from threading import Lock
from typing import Any

from setmatch.data.images.unreadable import UnreadableError
from setmatch.errors import DataError, SetmatchError
from setmatch.files.folder_lock import locked
from setmatch.files.writing import require_folder
from setmatch.inference.background import in_background
from setmatch.inference.earlier_results import earlier_results, replaced_line
from setmatch.inference.progress import progress_bar
from setmatch.inference.results_folder import DRAWN, shortened
from setmatch.inference.tables import csv_text
from setmatch.inference.video.detected_frames import FrameDetector, detected_frames
from setmatch.inference.video.frame import VideoFrame
from setmatch.inference.video.frame_choice import FrameChoice
from setmatch.inference.video.growing_files import LinesFile, growing_file
from setmatch.inference.video.reading import VideoReader
from setmatch.inference.video.sources import VideoSource
from setmatch.inference.video.track_table import COLUMNS, TrackTable
from setmatch.inference.video.tracker import Tracker
from setmatch.inference.video.writing import ENCODERS, H264, VideoWriter
from setmatch.interruption import uninterrupted

LINES, TRACKS = "detections.jsonl", "tracks.csv"
_SUFFIX = ".mp4"
_WAITING_FRAMES = 4  # to be drawn and written
_ENDS = (KeyboardInterrupt, SetmatchError, OSError)  # with which what was done until then is kept


@dataclass(frozen=True)
class VideoOptions:
    """How videos are read and written: which frames, how many at once, and what is made of them."""

    choice: FrameChoice = field(default_factory=FrameChoice)
    batch_size: int = 4
    track: bool = False
    drawn: bool = True
    progress: bool = True
    encoders: tuple[str, ...] = ENCODERS


@dataclass(frozen=True)
class VideoSummary:
    """What was written, and `notes` about what was not as it should be.

    `tracks` is None unless they were asked for. `replaced` says what became of the results of an
    earlier run. `interrupted` means Ctrl-C: the results end there.
    """

    out: Path
    videos: int
    frames: int
    detections: int
    tracks: int | None
    notes: tuple[str, ...]
    replaced: str
    interrupted: bool


def write_videos(
    detector: FrameDetector[Any],
    sources: Sequence[VideoSource],
    out: str | Path,
    options: VideoOptions,
) -> VideoSummary:
    """Detect objects in videos, and write what is found to the folder `out`.

    `out` then holds:

    - drawn/: the videos with detections drawn on them, as MP4 without sound
    - detections.jsonl: a line for each frame, with its number and time, and its detections as COCO
      results
    - tracks.csv, with `options.track`: a row for each track

    Results of a file get their names when they are complete; results of live input grow under their
    names. If Ctrl-C or an error ends the run, results up to there are kept. A video that
    cannot be read is a note of the summary; the others are processed. Raises DataError if no video
    can be read; nothing is written then.
    """
    require_folder(out)
    out = Path(os.path.abspath(out))
    videos = [each for each in sources if not _is_below(each, out)]
    if not videos:
        raise DataError(
            f"no video to predict: all are in {out}, whose videos are results; name another folder"
        )
    with locked(out):
        return _Run(detector, videos, out, options).write()


class _Run:
    """One run over some videos, whose files are open as long as it lasts."""

    def __init__(
        self,
        detector: FrameDetector[Any],
        sources: Sequence[VideoSource],
        out: Path,
        options: VideoOptions,
    ) -> None:
        self.detector, self.out, self.options = detector, out, options
        self.names = _names(sources)
        self.drawn_names = _drawn_names(list(self.names.values()))
        self.earlier = earlier_results(out, (LINES, TRACKS), DRAWN, {_SUFFIX})
        self.written: set[Path] = set()
        self.videos = self.frames = self.detections = self.tracks = 0
        self.notes: list[str] = []
        self.unread: list[str] = []
        self.lines: LinesFile | None = None
        self.table: LinesFile | None = None

    def write(self) -> VideoSummary:
        """Write the results of all videos."""
        end: BaseException | None = None
        with ExitStack() as files:
            try:
                for source, name in self.names.items():
                    self._add(source, name, files)
            except _ENDS as error:
                end = error
                if isinstance(error, OSError):  # it may name a file that lies aside
                    end = OSError(error.errno, error.strerror, str(self.out))
                if not self.frames:
                    raise end from None
            with uninterrupted():
                files.close()
        if end is not None and not isinstance(end, KeyboardInterrupt):
            raise end
        if not self.videos:
            one, many = self.unread[0], len(self.unread)
            raise DataError(
                one if many == 1 else f"none of the {many} videos could be read; the first: {one}"
            )
        return VideoSummary(
            self.out,
            self.videos,
            self.frames,
            self.detections,
            self.tracks if self.options.track else None,
            (*self.unread, *self.notes),
            replaced_line(self.earlier, self.written, (LINES, TRACKS)),
            interrupted=end is not None,
        )

    def _add(self, source: VideoSource, name: Path, files: ExitStack) -> None:
        """Write the results of a video; the files that videos share are closed by `files`."""
        options = self.options
        try:
            reader = VideoReader(source, options.choice)
            tracker = Tracker(reader.rate) if options.track else None
            frames = detected_frames(reader, self.detector, options.batch_size, tracker)
            with closing(frames):
                self._write(reader, frames, name, files)
        except UnreadableError as error:
            self.unread.append(str(error))

    def _open(self, files: ExitStack) -> None:
        in_place = any(each.kind != "file" for each in self.names)
        for name in (LINES, TRACKS) if self.options.track else (LINES,):
            path = files.enter_context(growing_file(self.out / name, in_place))
            file = files.enter_context(closing(LinesFile(path)))
            self.written.add(Path(name))
            if name == LINES:
                self.lines = file
            else:
                self.table = file
                file.write(csv_text([COLUMNS]).rstrip())

    def _write(
        self,
        reader: VideoReader,
        frames: Iterator[VideoFrame[Any]],
        name: Path,
        files: ExitStack,
    ) -> None:
        """Draw and write frames in their order, in a thread, while the model runs."""
        first = next(frames)
        end: BaseException | None = None
        task, duration_s = f"{name.name}, seconds", reader.duration_s
        total = None if duration_s is None else ceil(duration_s)
        with ExitStack() as stack:
            video = self._video(reader, first, name, stack) if self.options.drawn else None
            sink = self._sink(name, video, files)
            try:
                with (
                    progress_bar(task, total, self.options.progress) as advance,
                    in_background(1, _WAITING_FRAMES) as start,
                ):
                    shown_s = 0
                    for frame in chain([first], frames):
                        start(partial(sink.write, frame))
                        advance(int(frame.time_s) - shown_s)
                        shown_s = int(frame.time_s)
                    advance(0 if total is None else total - shown_s)
            except _ENDS as error:
                end = error
            with uninterrupted():
                end = sink.close(end)
                if end is not None and not sink.frames:
                    raise end
                stack.close()
        self.videos += 1
        self.frames += sink.frames
        self.detections += sink.detections
        self.tracks += sink.tracks
        self._note(reader, sink)
        if end is not None:
            raise end

    def _video(
        self, reader: VideoReader, first: VideoFrame[Any], name: Path, stack: ExitStack
    ) -> VideoWriter:
        """Open the drawn video, of the size of its first frame."""
        drawn = Path(DRAWN, self.drawn_names[name])
        in_place = reader.source.kind != "file"
        path = stack.enter_context(growing_file(self.out / drawn, in_place))
        height, width = first.detections.size_px
        video = VideoWriter(path, (width, height), reader.rate, self.options.encoders)
        self.written.add(drawn)
        return video

    def _sink(self, name: Path, video: VideoWriter | None, files: ExitStack) -> "_Sink":
        """Return where the frames of a video go; opens the files that all videos share."""
        if self.lines is None:
            self._open(files)
        assert self.lines is not None, "it is opened with the first video"
        return _Sink(name.as_posix(), self.lines, self.table, video)

    def _note(self, reader: VideoReader, sink: "_Sink") -> None:
        """Say what was not as it should be."""
        found = []
        if reader.broken:
            found.append(f"{reader.broken} broken packets, whose frames are left out")
        if reader.dropped:
            of = reader.dropped + sink.frames
            found.append(
                f"{reader.dropped} of {of} frames dropped, because they come faster than the model "
                "takes them"
            )
        if reader.ended_early:
            found.append(f"ends early: {reader.ended_early}")
        if sink.video is not None and sink.video.encoder not in H264:
            found.append(f"drawn as {sink.video.encoder}, because there is no encoder for H.264")
        if found:
            self.notes.append(f"{reader.source.name}: {'; '.join(found)}")


class _Sink:
    """The outputs for the frames of one video: the lines, the table and the drawn video."""

    def __init__(
        self, name: str, lines: LinesFile, table: LinesFile | None, video: VideoWriter | None
    ) -> None:
        self.video = video
        self.frames = self.detections = 0
        self._name, self._lines = name, lines
        self._table = None
        if table is not None:
            self._table = TrackTable(name, lambda row: table.write(csv_text([row]).rstrip()))
        self._failed = False
        self._lock = Lock()  # a second Ctrl-C may close this while a frame is written

    @property
    def tracks(self) -> int:
        """How many tracks there were."""
        return 0 if self._table is None else self._table.count

    def write(self, frame: VideoFrame[Any]) -> None:
        """Write the next frame; nothing after one that could not be written."""
        with self._lock:
            if self._failed:
                return
            self._failed = True  # until this frame is written
            row = {"file_name": self._name} | frame.to_dict()
            self._lines.write(json.dumps(row, ensure_ascii=False))
            self.frames += 1
            self.detections += len(row["detections"])
            if self._table is not None:
                self._table.add(frame)
            if self.video is not None:
                self.video.write(frame.draw(), frame.time_s)
            self._failed = False

    def close(self, end: BaseException | None) -> BaseException | None:
        """Complete the results as far as that works; return the first error, `end` if there is one.

        What is encoded until then is written by this alone, so that a full disk may show only here.
        """
        with self._lock:
            for part in (self._table, self.video):
                try:
                    if part is not None:
                        part.close()
                except OSError as error:
                    end = end or error
        return end


def _names(sources: Sequence[VideoSource]) -> dict[VideoSource, Path]:
    """Return what results call each video: its path below the folder that all files share."""
    paths = {each: Path(os.path.abspath(each.address)) for each in sources if each.kind == "file"}
    root = os.path.commonpath([path.parent for path in paths.values()]) if paths else ""
    names: dict[VideoSource, Path] = {}
    for source in sources:
        name, number = paths[source].relative_to(root) if source in paths else None, 1
        while name is None or name in names.values():  # only addresses can be called the same
            ending = f"_{number}" if number > 1 else ""
            name, number = Path(f"{source.file_name}{ending}"), number + 1
        names[source] = name
    return names


def _drawn_names(names: Sequence[Path]) -> dict[Path, Path]:
    """Return the name of each drawn video: its own, or one with .mp4 after it that no other has."""
    drawn: dict[Path, Path] = {}
    for name in sorted(names, key=lambda each: each.suffix.lower() != _SUFFIX):
        stem, chosen = name.name, name
        while chosen.suffix.lower() != _SUFFIX or chosen in drawn.values():
            chosen, stem = name.with_name(shortened(stem, _SUFFIX)), f"{stem}_"
        drawn[name] = chosen
    return drawn


def _is_below(source: VideoSource, out: Path) -> bool:
    return source.kind == "file" and out in Path(os.path.abspath(source.address)).parents
