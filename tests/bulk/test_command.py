"""`setmatch predict --out NAME.parquet`: what it prints, and what it refuses in one line."""

from pathlib import Path

import pytest
from PIL import Image
from red_boxes import rows, write_boxes

from setmatch.cli import main


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_boxes(tmp_path_factory.mktemp("command") / "in", 5)


def test_the_command_says_what_is_there_and_what_is_left(
    images: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    out = tmp_path / "a.parquet"
    command = ["predict", "scenes_n", str(images), "--out", str(out), "--part-images", "2"]
    assert main([*command, "--shard", "1/2"]) == 0
    printed = capsys.readouterr()
    assert "setmatch: 1 of 3 images cannot be read; the column error says why" in printed.err
    assert printed.out.startswith("images: 3, detections: ")
    assert printed.out.endswith(f"written to {out}\nunfinished shards: 2-of-2\n")
    assert main([*command, "--shard", "2/2"]) == 0
    assert "unfinished" not in capsys.readouterr().out
    assert len({row["path"] for row in rows(out)}) == 5
    assert main([*command, "--shard", "1/2"]) == 0
    assert "setmatch: 3 of 3 images were already done" in capsys.readouterr().err


def test_a_shard_without_a_readable_image_is_an_error(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    """As for a folder of drawn images; the rows say why, also to the next call."""
    for name in "abc":
        (tmp_path / f"{name}.jpg").write_bytes(b"no image")
    out = tmp_path / "a.parquet"
    for _ in range(2):
        assert main(["predict", "scenes_n", str(tmp_path), "--out", str(out)]) == 2
        lines = capsys.readouterr().err.splitlines()
        assert f"none of the 3 images could be read; the column error of {out} says" in lines[-1]
        assert str(tmp_path / "a.jpg") in lines[-1]
    assert [row["error"] for row in rows(out)] == ["cannot identify image file"] * 3


@pytest.mark.parametrize("kind", ["results", "a.parquet"])
def test_images_with_further_frames_are_counted(
    kind: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    frames = [Image.new("RGB", (64, 48), color) for color in ("red", "blue")]
    for number, suffix in enumerate((".gif", ".tif", ".png", ".webp")):
        path = tmp_path / "in" / f"{number}{suffix}"
        path.parent.mkdir(exist_ok=True)
        frames[0].save(path, save_all=True, append_images=frames[1:])
        frames[0].save(path.with_stem(f"single {number}"))
    (tmp_path / "in/broken.gif").write_bytes((tmp_path / "in/0.gif").read_bytes()[:20])
    assert main(["predict", "scenes_n", str(tmp_path / "in"), "--out", str(tmp_path / kind)]) == 0
    said = [line for line in capsys.readouterr().err.splitlines() if "several pages" in line]
    (line,) = said
    assert "4 of 9 images are animations or have several pages" in line


@pytest.mark.parametrize(
    ("options", "environment", "message"),
    [
        (["--out", "results", "--shard", "1/2"], {}, "--shard is only for Parquet files"),
        (["--out", "results", "--part-images", "9"], {}, "--part-images is only for Parquet"),
        (["--out", "results", "--ray"], {}, "--ray is only for Parquet"),
        (["--out", "a.parquet", "--segment-threshold", "0.5"], {}, "have no segments"),
        (["--out", "a.parquet", "--shard", "3/2"], {}, "the shards of 2 are 1/2 to 2/2"),
        (["--out", "a.parquet", "--shard", ""], {}, "write the number and the count"),
        (["--out", "a.parquet", "--part-images", "0"], {}, "a part has at least one image"),
        (["--out", "a.parquet"], {"RANK": "0", "WORLD_SIZE": "2"}, "add --shard auto"),
        (["--out", "a.parquet", "--classes", "dog"], {}, "class 'dog': no such class"),
        (["--out", "a.parquet", "--threshold", "2"], {}, "scores are between 0 and 1"),
    ],
)
def test_options_that_do_not_fit_are_refused(
    options: list[str],
    environment: dict[str, str],
    message: str,
    images: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
):
    """In one line, before anything is written."""
    monkeypatch.chdir(tmp_path)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    assert main(["predict", "scenes_n", str(images), *options]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert message in line
    assert list(tmp_path.iterdir()) == []


def test_shares_of_torchrun_need_no_other_process(
    images: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    """A process that waited for the others would end with the first that is lost."""
    out = tmp_path / "a.parquet"
    for rank in (1, 0):
        monkeypatch.setenv("RANK", str(rank))
        monkeypatch.setenv("WORLD_SIZE", "2")
        assert main(["predict", "scenes_n", str(images), "--out", str(out), "--shard", "auto"]) == 0
    assert len({row["path"] for row in rows(out)}) == 5
