"""The Parquet files of a result: each has the rows of a fixed part of the images, whole or not."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from setmatch.bulk.rows import require_pyarrow
from setmatch.bulk.shard import Shard
from setmatch.files.reading import require_regular
from setmatch.files.writing import atomic_file

if TYPE_CHECKING:
    import pyarrow

_KEY = b"setmatch"  # in the metadata of a file


@dataclass(frozen=True)
class Part:
    """Some images of a shard, whose rows are one file."""

    path: Path
    images: Sequence[str]

    def __len__(self) -> int:
        return len(self.images)


def parts_of(shard: Shard, images: Sequence[str], part_images: int, out: Path) -> list[Part]:
    """Return the parts of a shard's images, of `part_images` each; the last may have fewer."""
    starts = range(0, len(images), part_images)
    return [
        Part(out / _name(shard, number), images[start : start + part_images])
        for number, start in enumerate(starts)
    ]


def unfinished(count: int, shards: int, part_images: int, out: Path) -> list[str]:
    """Return the names of the shards whose last part is not there; a shard writes it last.

    `count` images are divided.
    """
    there = {path.name for path in out.iterdir()}
    missing = []
    for number in range(1, shards + 1):
        shard = Shard(number, shards)
        parts = -(-len(range(number - 1, count, shards)) // part_images)
        if not all(_name(shard, part) in there for part in range(parts)):
            missing.append(shard.name)
    return missing


def write_part(part: Part, table: "pyarrow.Table", job: str, aside: Path) -> None:
    """Write a part, whole or not at all; `aside` is the folder for the file until it is whole.

    Raises OSError if the disk is full.
    """
    from pyarrow import parquet

    facts = json.dumps({"job": job, "images": len(part)})
    table = table.replace_schema_metadata({_KEY: facts.encode()})
    with atomic_file(part.path, aside=aside) as temporary:
        parquet.write_table(table, temporary, compression="zstd", write_page_checksum=True)


def read_part(part: Part, job: str) -> "pyarrow.Table | None":
    """Return the rows of a part that is there; None if it is damaged or of another job.

    Every page is compared with its checksum. Raises FileNotFoundError if there is none.
    """
    pa = require_pyarrow()
    from pyarrow import parquet

    try:
        require_regular(part.path)
        with parquet.ParquetFile(part.path, page_checksum_verification=True) as file:
            facts: Any = json.loads((file.schema_arrow.metadata or {}).get(_KEY, b"null"))
            table = file.read()
    except FileNotFoundError:
        raise
    except (OSError, ValueError, pa.ArrowException):
        return None
    return table if facts == {"job": job, "images": len(part)} else None


def _name(shard: Shard, number: int) -> str:
    return f"shard-{shard.name}-part-{number:06}.parquet"
