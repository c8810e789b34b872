"""What the parts of one result have in common; a result is continued only by the same job."""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from filelock import FileLock

from setmatch.bulk.opened_model import Choices, OpenedModel
from setmatch.errors import ConfigError
from setmatch.files.leftovers import remove_leftovers
from setmatch.files.reading import read_text
from setmatch.files.writing import write_text

FORMAT = "setmatch-parquet-1"
NAME = "job.json"
# What differs, as a message says it.
_WORDS = {
    "format": "another version of setmatch",
    "model": "another model",
    "threshold": "another threshold",
    "classes": "other classes",
    "tiles": "other tiles",
    "overlap": "another overlap of tiles",
    "images": "another list of images",
    "list": "another list of images",
    "shards": "another number of shards",
    "part_images": "another number of images in a part",
}


@dataclass(frozen=True)
class Job:
    """Everything that decides which rows a part has, but for rounding of the engine.

    `model` and `list` are digests.
    """

    format: str
    model: str
    threshold: float | tuple[float, ...]
    classes: tuple[int, ...] | None
    tiles: int | str | None
    overlap: float | None
    images: int
    list: str
    shards: int
    part_images: int

    @property
    def digest(self) -> str:
        """What distinguishes this job from others."""
        return hashlib.sha256(json.dumps(self.to_tree(), sort_keys=True).encode()).hexdigest()

    def to_tree(self) -> dict[str, Any]:
        """Return the job as JSON has it, with lists."""
        tree: dict[str, Any] = json.loads(json.dumps(asdict(self)))
        return tree


def job_of(
    model: OpenedModel, choices: Choices, images: Sequence[str], shards: int, part_images: int
) -> Job:
    """Return the job of a model on a list of images."""
    names = hashlib.sha256()
    for image in images:
        names.update(image.encode("utf-8", "surrogateescape") + b"\0")
    options = model.options
    return Job(
        FORMAT,
        model.digest,
        options.threshold,
        None if options.classes is None else tuple(sorted(options.classes)),
        choices.tiles,
        None if choices.tiles is None else choices.overlap,
        len(images),
        names.hexdigest(),
        shards,
        part_images,
    )


def begin_or_continue(job: Job, folder: Path, out: Path) -> None:
    """Write the job into a folder, or compare it with the one that is there.

    The shards of a result may begin at the same time: the first one writes it. Raises ConfigError
    that says how the jobs differ.
    """
    path = folder / NAME
    folder.mkdir(parents=True, exist_ok=True)
    with FileLock(folder / ".job.lock"):
        remove_leftovers(folder)
        if not path.exists():
            write_text(path, json.dumps(job.to_tree(), indent=1) + "\n")
            return
        try:
            found = json.loads(read_text(path))
            different = [key for key, value in job.to_tree().items() if found.get(key) != value]
        except (OSError, ValueError, AttributeError):
            raise ConfigError(
                f"{path}: damaged, so that it is not known whose results {out} has; name another "
                "folder with --out, or remove this one"
            ) from None
    if different:
        words = ", ".join(dict.fromkeys(_WORDS[key] for key in different))
        raise ConfigError(
            f"{out}: has results of {words}; continue with what it was begun with, name another "
            "folder with --out, or remove this one"
        )
