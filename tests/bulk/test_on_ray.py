"""Parts computed by workers of Ray, which may die."""

import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import red_boxes
from red_boxes import finder, kill_me, predict, rows, write_boxes

import fake_detectors
import setmatch
from fake_detectors import RedFinder
from setmatch.bulk import Predictor
from setmatch.bulk.on_ray import compute_on_ray
from setmatch.errors import ConfigError, ExtraMissingError, WeightsError
from setmatch.structures.batch import Batch
from setmatch.structures.outputs import PredictionGroup

PART_IMAGES, PARTS = red_boxes.PART_IMAGES, 10
slow = pytest.mark.campaign  # starting Ray takes long


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_boxes(tmp_path_factory.mktemp("ray") / "in", PART_IMAGES * PARTS)


@pytest.fixture(scope="module")
def ray() -> Iterator[Any]:
    """Ray on this machine, with two workers."""
    library = pytest.importorskip("ray")
    folders = [Path(red_boxes.__file__).parent, Path(fake_detectors.__file__).parent]
    modules = os.pathsep.join(map(str, [*folders, Path(setmatch.__file__).parents[1]]))
    library.init(
        num_cpus=2,
        include_dashboard=False,
        log_to_driver=False,
        runtime_env={"env_vars": {"PYTHONPATH": modules}},
    )
    yield library
    library.shutdown()


class Mortal(RedFinder):
    """A detector that kills its process at some batches, and at those only once."""

    def __init__(self, graves: Path, kills: int) -> None:
        super().__init__()
        self.graves, self.kills = graves, kills

    def forward(self, batch: Batch) -> tuple[PredictionGroup, ...]:
        for number in range(self.kills):
            try:
                (self.graves / str(number)).touch(exist_ok=False)
            except FileExistsError:
                continue
            kill_me()
        return super().forward(batch)


class Broken(RedFinder):
    """A detector whose weights have diverged."""

    def forward(self, batch: Batch) -> tuple[PredictionGroup, ...]:
        raise WeightsError("the model predicts nothing that is finite")


@slow
@pytest.mark.promise(21)
@pytest.mark.parametrize("kills", [0, 1, 2, 3])
def test_workers_that_die_lose_and_double_nothing(
    kills: int, images: Path, tmp_path: Path, ray: Any, monkeypatch: pytest.MonkeyPatch
):
    """With paths that only this process can resolve."""
    predict(images, tmp_path / "here.parquet")
    (tmp_path / "graves").mkdir()
    monkeypatch.chdir(images)
    summary = predict(
        ".",
        tmp_path / "ray.parquet",
        predictor=Predictor(Mortal(tmp_path / "graves", kills)),
        compute=compute_on_ray,
    )
    assert len(os.listdir(tmp_path / "graves")) == kills
    assert summary.images == PART_IMAGES * PARTS
    expected = [row | {"path": Path(row["path"]).name} for row in rows(tmp_path / "here.parquet")]
    assert rows(tmp_path / "ray.parquet") == expected


@slow
def test_a_part_that_always_kills_its_worker_is_named(images: Path, tmp_path: Path, ray: Any):
    """Instead of starting workers for ever; what is done stays."""
    (tmp_path / "graves").mkdir()
    mortal = Predictor(Mortal(tmp_path / "graves", 1000))
    with pytest.raises(ConfigError, match=r"its worker died 4 times.*00\d.png to .*00\d.png"):
        predict(
            images / "00*.png", tmp_path / "a.parquet", predictor=mortal, compute=compute_on_ray
        )


class Homeless(RedFinder):
    """A detector whose module workers do not have."""

    def __reduce__(self) -> tuple[object, ...]:
        return __import__, ("a_module_that_workers_lack",)


@slow
def test_workers_that_cannot_start_say_why(images: Path, tmp_path: Path, ray: Any):
    homeless = Predictor(Homeless().eval())  # not copied, as one in training mode is
    with pytest.raises(ConfigError, match=r"a worker cannot start .*a_module_that_workers_lack"):
        predict(images, tmp_path / "a.parquet", predictor=homeless, compute=compute_on_ray)


@slow
def test_an_error_of_a_worker_is_one_line(images: Path, tmp_path: Path, ray: Any):
    with pytest.raises(WeightsError, match=r"^the model predicts nothing that is finite$"):
        predict(
            images, tmp_path / "a.parquet", predictor=Predictor(Broken()), compute=compute_on_ray
        )


@slow
def test_the_columns_of_ray_data(images: Path, tmp_path: Path, ray: Any):
    """`map_batches` with the class, and with an object, on paths and on pixels."""
    predict(images, tmp_path / "here.parquet")
    expected = rows(tmp_path / "here.parquet")
    paths = ray.data.from_items([{"path": row["path"]} for row in expected], override_num_blocks=4)
    by_class = paths.map_batches(Predictor, fn_constructor_args=[RedFinder()], concurrency=2)
    by_object = paths.map_batches(finder(), batch_size=5)
    for results in (by_class, by_object):
        assert sorted(results.take_all(), key=lambda row: row["path"]) == expected


def test_without_ray_the_extra_is_named(
    images: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(ExtraMissingError, match=r"pip install 'setmatch\[ray\]'"):
        predict(images, tmp_path / "a.parquet", compute=compute_on_ray)
