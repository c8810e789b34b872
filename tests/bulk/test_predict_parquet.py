"""Bulk prediction: rows of every image, once, whatever ends it; the same job alone continues."""

import errno
import os
import resource
import signal
from pathlib import Path

import pandas
import pytest
import torch
from pyarrow import parquet
from red_boxes import finder, in_child, kill_me, predict, rows, write_boxes

from fake_detectors import RedFinder
from setmatch.bulk import COLUMNS, Predictor
from setmatch.bulk.predict_parquet import compute_here
from setmatch.errors import ConfigError, DataError
from setmatch.files.folder_lock import locked

COUNT = 11  # four parts of three images, the last of two


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_boxes(tmp_path_factory.mktemp("bulk") / "in", COUNT)


@pytest.fixture(scope="module")
def whole(images: Path) -> Path:
    """A result that nothing disturbed."""
    predict(images, images.with_name("whole.parquet"))
    return images.with_name("whole.parquet")


def files(out: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(out.glob("*.parquet"))}


def test_every_image_has_rows_in_order(whole: Path, images: Path):
    table = rows(whole)
    assert list(table[0]) == list(COLUMNS)
    assert [row["path"] for row in table] == [str(path) for path in sorted(images.iterdir())]
    assert [row["error"] for row in table if row["class"] is None] == [
        "cannot identify image file"
    ] * 2
    first = table[1]
    assert (first["class"], first["class_index"]) == ("red", 0)
    assert (first["width_px"], first["height_px"]) == (96, 64)
    assert [first[f"{side}_px"] for side in ("x0", "y0", "x1", "y1")] == pytest.approx(
        [1, 8, 33, 40], abs=1e-3
    )
    assert first["score"] > 0.9


def test_an_image_without_detections_has_a_row(images: Path, tmp_path: Path):
    """Without it, nobody could tell it from an image that was left out."""
    predict(images, tmp_path / "a.parquet", predictor=finder(classes=["not red"]))
    table = rows(tmp_path / "a.parquet")
    assert len(table) == COUNT
    readable = [row for row in table if row["error"] is None]
    assert {row["class"] for row in readable} == {None}
    assert all(row["width_px"] and row["height_px"] for row in readable)


def test_readers_of_parquet_see_rows_alone(whole: Path):
    """The folder also has what is needed to continue."""
    assert len(pandas.read_parquet(whole)) == len(rows(whole))
    (schema,) = {parquet.read_schema(path).remove_metadata() for path in whole.glob("*.parquet")}
    assert {field.name: str(field.type).replace("float", "float32") for field in schema} == COLUMNS


def killed_at_image(number: int, images: Path, out: Path) -> None:
    seen = 0

    def compute(predictor, parts, advance):
        def count(done: int) -> None:
            nonlocal seen
            seen += done
            if seen == number:
                kill_me()

        return compute_here(predictor, parts, count)

    predict(images, out, compute=compute)


def killed_at_call(module: object, name: str, call: int, after: bool, images: Path, out: Path):
    """Die before or after a call of the system, such as the renaming of a file."""
    original, calls = getattr(module, name), 0

    def counted(*values, **named):
        nonlocal calls
        calls += 1
        if calls == call and not after:
            kill_me()
        result = original(*values, **named)
        if calls == call and after:
            kill_me()
        return result

    setattr(module, name, counted)
    predict(images, out)


MOMENTS = {
    **{f"image {number}": lambda i, o, n=number: killed_at_image(n, i, o) for number in (1, 4, 9)},
    **{
        f"{'after' if after else 'before'} {name} {call}": (
            lambda i, o, m=module, n=name, c=call, a=after: killed_at_call(m, n, c, a, i, o)
        )
        for module, name in ((parquet, "write_table"), (os, "fsync"), (Path, "replace"))
        for call in (1, 3)
        for after in (False, True)
    },
}


@pytest.mark.promise(21)
@pytest.mark.parametrize("moment", MOMENTS)
def test_a_killed_call_is_continued_to_the_same_files(
    moment: str, images: Path, whole: Path, tmp_path: Path
):
    """No row twice, none lost, and no file that is torn."""
    out = tmp_path / "a.parquet"
    assert in_child(lambda: MOMENTS[moment](images, out)) == -signal.SIGKILL
    there = files(out)
    assert there.items() <= files(whole).items()
    summary = predict(images, out)
    assert files(out) == files(whole)
    assert (summary.images, summary.before) == (COUNT, 3 * len(there))
    left = {path.name for path in out.rglob("*")} - {path.name for path in whole.rglob("*")}
    assert left <= {"1-of-1"}  # the empty folder of the shard that was killed


@pytest.mark.promise(21)
def test_many_kills_one_after_the_other(images: Path, whole: Path, tmp_path: Path):
    """Each call is killed after the first part that it writes."""
    out = tmp_path / "a.parquet"
    for parts in range(1, 4):
        dying = lambda: killed_at_call(parquet, "write_table", 2, False, images, out)  # noqa: E731
        assert in_child(dying) == -signal.SIGKILL
        assert len(files(out)) == parts
    predict(images, out)
    assert files(out) == files(whole)


def test_a_done_result_is_left_alone(whole: Path, images: Path):
    before = {path.name: path.stat().st_mtime_ns for path in whole.glob("*.parquet")}
    summary = predict(images, whole)
    assert (summary.images, summary.before) == (COUNT, COUNT)
    assert (summary.detections, summary.unreadable) == (9, 2)
    assert before == {path.name: path.stat().st_mtime_ns for path in whole.glob("*.parquet")}


def damage(path: Path, kind: str) -> None:
    content = bytearray(path.read_bytes())
    if kind == "flipped":
        content[len(content) // 4] ^= 1
    elif kind == "rows of another part":
        content = bytearray(path.with_name("shard-1-of-1-part-000000.parquet").read_bytes())
    path.write_bytes({"empty": b"", "truncated": content[: len(content) // 2]}.get(kind, content))


@pytest.mark.promise(21)
@pytest.mark.parametrize("kind", ["empty", "truncated", "flipped", "rows of another part"])
def test_a_damaged_part_is_computed_again(
    kind: str, images: Path, whole: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
):
    out = tmp_path / "a.parquet"
    predict(images, out)
    damage(out / "shard-1-of-1-part-000003.parquet", kind)
    predict(images, out)
    assert files(out) == files(whole)
    assert "part-000003.parquet: is damaged" in caplog.text


OTHER_JOBS = {
    "another threshold": lambda images: {"predictor": finder(threshold=0.9)},
    "other classes": lambda images: {"predictor": finder(classes=["red"])},
    "other tiles": lambda images: {"predictor": finder(tiles=32)},
    "another number of images in a part": lambda images: {"part_images": 4},
    "another number of shards": lambda images: {"shard": "1/2"},
}


class OtherFinder(RedFinder):
    """A detector with other weights."""

    def __init__(self) -> None:
        super().__init__()
        self.frozen.register_buffer("weight", torch.ones(1))


@pytest.mark.parametrize("words", [*OTHER_JOBS, "another model", "another list of images"])
def test_another_job_is_refused(words: str, images: Path, whole: Path):
    """Rows of two thresholds in one result could never be distinguished."""
    before = files(whole)
    options = OTHER_JOBS.get(words, lambda images: {})(images)
    if words == "another model":
        options = {"predictor": Predictor(OtherFinder())}
    sources = images / "000.png" if words == "another list of images" else images
    with pytest.raises(ConfigError, match=f"whole.parquet: has results of {words}"):
        predict(sources, whole, **options)
    assert files(whole) == before
    assert not (whole / "_shards/1-of-2").exists()


def test_shards_share_the_images(images: Path, whole: Path, tmp_path: Path):
    """Their rows together are those of one process; the last one is told that all are done."""
    out = tmp_path / "a.parquet"
    left = [predict(images, out, shard=f"{number}/3").unfinished for number in (2, 3, 1)]
    assert left == [("1-of-3", "3-of-3"), ("1-of-3",), ()]
    by_path = sorted(rows(out), key=lambda row: row["path"])
    assert by_path == rows(whole)


def test_more_shards_than_images(images: Path, tmp_path: Path):
    for number in (1, 2):
        summary = predict(images / "000.png", tmp_path / "a.parquet", shard=f"{number}/2")
        assert summary.images == int(number == 1)
    assert len(rows(tmp_path / "a.parquet")) == 1


def test_two_processes_do_not_write_one_shard(images: Path, tmp_path: Path):
    out = tmp_path / "a.parquet"
    with locked(out / "_shards/1-of-2"):
        with pytest.raises(ConfigError, match="1-of-2: is being written by"):
            predict(images, out, shard="1/2")
        predict(images, out, shard="2/2")


def test_a_full_disk_keeps_what_is_done(images: Path, whole: Path, tmp_path: Path):
    """As a limit of the size of files has it: the second part is larger than allowed."""
    out = tmp_path / "a.parquet"
    sizes = [len(content) for content in files(whole).values()]

    def fill() -> None:
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        most = min(sizes[1:]) - 1 if sizes[0] < min(sizes[1:]) else sizes[0] - 1
        resource.setrlimit(resource.RLIMIT_FSIZE, (most, most))
        with pytest.raises(ConfigError, match=r"a.parquet: cannot be written \(File too large\)"):
            predict(images, out)

    assert in_child(fill) == 0
    assert files(out).items() <= files(whole).items()
    assert not list(out.rglob(".writing-*"))
    predict(images, out)
    assert files(out) == files(whole)


def test_a_disk_without_room_is_one_line(images: Path, tmp_path: Path, monkeypatch):
    def full(*values, **named):
        # As Arrow words it.
        raise OSError(errno.ENOSPC, "Error writing bytes to file. Detail: [errno 28] ...")

    monkeypatch.setattr(parquet, "write_table", full)
    message = r"a.parquet: cannot be written \(No space left on device\); the parts that are there"
    with pytest.raises(ConfigError, match=message):
        predict(images, tmp_path / "a.parquet")


@pytest.mark.parametrize(
    ("out", "message"),
    [
        ("s3://bucket/a.parquet", "to a folder of this machine"),
        ("a file.parquet", "is a file"),
        ("others.parquet", "has files that setmatch did not write"),
        ("a file.parquet/inside.parquet", "is not a folder"),
    ],
)
def test_a_place_that_cannot_have_results_is_refused(
    out: str, message: str, images: Path, tmp_path: Path, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    Path("a file.parquet").write_text("something")
    Path("others.parquet").mkdir()
    Path("others.parquet/photo.jpg").write_text("something")
    with pytest.raises(ConfigError, match=message):
        predict(images, out)  # type: ignore[arg-type]
    assert sorted(path.name for path in tmp_path.rglob("*")) == [
        *("a file.parquet", "others.parquet", "photo.jpg"),
    ]


def test_nothing_is_written_for_sources_without_images(tmp_path: Path):
    (tmp_path / "in").mkdir()
    with pytest.raises(DataError, match="no image files"):
        predict(tmp_path / "in", tmp_path / "a.parquet")
    assert not (tmp_path / "a.parquet").exists()


def test_a_damaged_job_is_refused(images: Path, tmp_path: Path):
    predict(images, tmp_path / "a.parquet")
    (tmp_path / "a.parquet/_shards/job.json").write_bytes(b"\xff[")
    with pytest.raises(ConfigError, match=r"job.json: damaged"):
        predict(images, tmp_path / "a.parquet")
