"""Every command takes a model of every family, from training to the page that explains it."""

from pathlib import Path

import pytest

from setmatch.cli import main
from setmatch.data.open import open_dataset
from setmatch.data.synthetic.scenes import write_scenes
from setmatch.models.load import load, save
from setmatch.structures.metadata import Preprocessing
from small_families import PRESETS, small_model

pytestmark = pytest.mark.thorough

TRAIN = (
    *("data.short_side_px=64", "data.long_side_px=96", "data.workers=0", "data.augment=flip"),
    *("train.batch_size=2", "train.micro_batch=auto", "train.warmup_steps=1"),
    *("train.evaluate_every=1", "train.precision=float32"),
)
NO_TRANSFORMER = "torchvision's baselines"


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("data")
    write_scenes(folder, 4, 3, 64, 0, 0)
    return folder


@pytest.mark.parametrize("family", PRESETS)
def test_every_command_takes_a_model_of_the_family(
    data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], family: str
):
    """Fine-tuned by its weights alone, each file that is asked for is there."""
    validation = open_dataset(data, "val")
    start = tmp_path / "start"
    save(small_model(family, validation.categories, Preprocessing(64, 96)), start)
    run, image = tmp_path / "run", validation.path(0)
    settings = [word for setting in TRAIN for word in ("--set", setting)]

    def runs(*words: object) -> None:
        assert main([str(word) for word in words]) == 0, capsys.readouterr().err

    runs("train", data, "--weights", start, "--out", run, "--epochs", 2, *settings)
    tuned, before = (load(each).card.arguments for each in (run, start))
    assert {**tuned, "num_queries": None} == {**before, "num_queries": None}  # which data decide
    runs("evaluate", run, data, "--report", tmp_path / "report.html")
    runs("predict", run, image, "--out", tmp_path / "whole", "--threshold", 0)
    runs("predict", run, image, "--out", tmp_path / "tiles", "--tiles", 32)
    runs("compare", run, start, "--data", data, "--html", tmp_path / "compare.html")
    runs("push", run, "anna/shapes", "--out", tmp_path / "push")
    runs("convert-weights", run, tmp_path / "weights", "--to", "setmatch")
    written = ("report.html", "whole/detections.json", "tiles/detections.json", "compare.html")
    more = ("push/README.md", "weights/model.safetensors")
    assert [name for name in (*written, *more) if not (tmp_path / name).is_file()] == []
    queries = ("queries", run, data, "--out", tmp_path / "queries")
    explain = ("explain", run, image, "--out", tmp_path / "why.html")
    if family == NO_TRANSFORMER:
        for words in (queries, explain):
            assert main([str(word) for word in words]) == 2
            assert "not a detection transformer" in capsys.readouterr().err
        return
    runs(*queries)
    runs(*explain)
    assert (tmp_path / "queries/queries.html").is_file()
    assert (tmp_path / "why.html").is_file()
