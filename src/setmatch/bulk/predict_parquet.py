"""`predict_parquet`: detect objects in any number of images, and write rows of Parquet files."""

import logging
import os
import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from setmatch.bulk.job import Job, begin_or_continue, job_of
from setmatch.bulk.parts import Part, parts_of, read_part, unfinished, write_part
from setmatch.bulk.predictor import Predictor
from setmatch.bulk.rows import require_pyarrow
from setmatch.bulk.shard import Shard
from setmatch.bulk.sources import list_images
from setmatch.data.images.further_frames import has_further_frames
from setmatch.errors import ConfigError, DataError
from setmatch.files.folder_lock import locked
from setmatch.files.leftovers import remove_leftovers
from setmatch.files.writing import require_folder
from setmatch.inference.progress import progress_bar

if TYPE_CHECKING:
    import pyarrow

log = logging.getLogger("setmatch")
PART_IMAGES = 1000
STATE = "_shards"  # readers of Parquet folders pass over names with an underscore
_ADDRESS = re.compile(r"[a-zA-Z][\w+.-]+:/")  # as a path has it, which loses a slash

# Yields the parts, in any order, and their rows; the function takes how many images are done.
Compute = Callable[
    [Predictor, Sequence[Part], Callable[[int], None]], "Iterator[tuple[Part, pyarrow.Table]]"
]


@dataclass(frozen=True)
class ParquetSummary:
    """What a shard has: images, detections, and images that cannot be read.

    `before` of the images were done by an earlier call. Of `further_frames` images that this call
    read, which are animations or have several pages, only the first one was read. `unfinished` are
    the names of the shards that are not yet complete.
    """

    out: Path
    images: int = 0
    detections: int = 0
    unreadable: int = 0
    before: int = 0
    further_frames: int = 0
    unfinished: tuple[str, ...] = ()

    def with_part(self, part: Part, table: "pyarrow.Table") -> "ParquetSummary":
        """Return the summary with a part more."""
        return replace(
            self,
            images=self.images + len(part),
            detections=self.detections + len(table) - table["class_index"].null_count,
            unreadable=self.unreadable + len(table) - table["error"].null_count,
        )


def compute_here(
    predictor: Predictor, parts: Sequence[Part], advance: Callable[[int], None]
) -> "Iterator[tuple[Part, pyarrow.Table]]":
    """Yield the rows of each part, computed by this process."""
    for part in parts:
        yield part, predictor.table(part.images, part.images, advance)


def predict_parquet(
    predictor: Predictor,
    sources: Sequence[str | Path],
    out: str | Path,
    *,
    shard: str = "1/1",
    part_images: int = PART_IMAGES,
    progress: bool = True,
    compute: Compute = compute_here,
) -> ParquetSummary:
    """Detect objects in images, and write rows into the folder `out`, a file for each part.

    `sources` are image files, folders, patterns, lists (text files with an image a line) and
    addresses such as s3://bucket/images. `setmatch.bulk.COLUMNS` are the columns of the rows, which
    are in the order of the images. `shard` is the share of the images that this process takes, as
    3/16, or auto under torchrun or in an array of SLURM.

    A part has `part_images` images, and its file appears when it is complete. After an
    interruption, the next call with the same arguments resumes: it computes only missing and
    damaged parts. The rows are the same as without an interruption.

    Raises ConfigError if `out` has results of another job (model, threshold, images, ...), another
    process writes this shard, or the disk is full; DataError for sources without images, or if none
    of the shard's images can be read, whose rows say why; what loading the model raises; and
    ExtraMissingError without pyarrow.
    """
    require_pyarrow()
    share, out = Shard.parse(shard), _checked(out)
    if part_images < 1:
        raise ConfigError(f"part_images = {part_images}: a part has at least one image")
    images = list_images(sources)
    job = job_of(predictor.opened(), predictor.choices, images, share.count, part_images)
    parts = parts_of(share, share.of(images), part_images, out)
    del images  # the other shards' are of no use here
    aside = out / STATE / share.name
    with locked(aside):
        with _writing(out):
            begin_or_continue(job, out / STATE, out)
        remove_leftovers(aside)
        with progress_bar("predicting", sum(map(len, parts)), progress) as advance:
            summary, missing = _done_before(ParquetSummary(out), parts, job, advance)
            for part, table in compute(predictor, missing, advance):
                with _writing(out):
                    write_part(part, table, job.digest, aside)
                summary = summary.with_part(part, table)
                several = summary.further_frames + sum(map(has_further_frames, part.images))
                summary = replace(summary, further_frames=several)
    if summary.images and summary.unreadable == summary.images:
        raise DataError(
            f"none of the {summary.images} images could be read; the column error of {out} says "
            f"why; the first: {parts[0].images[0]}"
        )
    return replace(summary, unfinished=tuple(unfinished(job.images, share.count, part_images, out)))


def _done_before(
    summary: ParquetSummary, parts: Sequence[Part], job: Job, advance: Callable[[int], None]
) -> tuple[ParquetSummary, list[Part]]:
    """Return a summary of the parts that are there and whole, and the other parts."""
    missing = []
    for part in parts:
        try:
            table = read_part(part, job.digest)
        except FileNotFoundError:
            missing.append(part)
            continue
        if table is None:
            log.warning("%s: is damaged; its images are computed again", part.path)
            missing.append(part)
        else:
            summary = summary.with_part(part, table)
            advance(len(part))
    return replace(summary, before=summary.images), missing


def _checked(out: str | Path) -> Path:
    """Return the folder of a result; raise ConfigError unless it is new, or has a result."""
    if _ADDRESS.match(str(out)):
        raise ConfigError(
            f"{out}: results are written to a folder of this machine, which keeps them whole; "
            "copy them to an address when they are done"
        )
    out = Path(out)
    if out.exists() and not out.is_dir():
        raise ConfigError(
            f"{out}: is a file; results are a folder of Parquet files, so name another with --out"
        )
    require_folder(out)
    if out.is_dir() and not (out / STATE).is_dir() and any(out.iterdir()):
        raise ConfigError(f"{out}: has files that setmatch did not write; name another folder")
    return out


@contextmanager
def _writing(out: Path) -> Iterator[None]:
    """Say what to do where a disk is full or a folder cannot be written."""
    try:
        yield
    except OSError as error:
        reason = os.strerror(error.errno) if error.errno else str(error)
        raise ConfigError(
            f"{out}: cannot be written ({reason}); the parts that are there are whole and stay: "
            "make room, and give the same command again"
        ) from error
