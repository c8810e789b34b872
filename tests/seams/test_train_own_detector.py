"""Seam: a detector of one's own is trained, saved and evaluated, as an object or a factory."""

from functools import partial

import pytest

import setmatch as sm
from setmatch.data.synthetic.scenes import write_scenes
from setmatch.errors import ConfigError
from setmatch.models.detr.config import DetrShape
from setmatch.models.detr.presets import detr_nano
from setmatch.structures.metadata import Categories, ModelCard

SHAPE = DetrShape(num_queries=8, dim=32, heads=2, encoder_layers=1, decoder_layers=1, ffn_dim=32)
tiny_detr = partial(detr_nano, shape=SHAPE)
SETTINGS = ("train.batch_size=4", "train.micro_batch=4", "data.workers=0")
SIZE = ("data.short_side_px=64", "data.long_side_px=64")


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    folder = tmp_path_factory.mktemp("scenes")
    write_scenes(folder, 8, 4, 64, seed=0, workers=0)
    return folder


def train(data, out, model, *overrides, resume=False):
    options = {"out": out, "epochs": 1, "resume": resume, "device": "cpu"}
    return sm.train(data, model, overrides=(*SETTINGS, *overrides), **options)


@pytest.mark.parametrize("factory", [tiny_detr, lambda num_classes: tiny_detr(num_classes)])
def test_a_factory_is_called_with_the_number_of_classes(data, tmp_path, factory):
    run = train(data, tmp_path / "run", factory, *SIZE)
    assert len(run.model.card.categories) == 6
    assert run.best["AP"] == sm.evaluate(run.model, data, workers=0).AP
    assert train(data, tmp_path / "run", factory, *SIZE, resume=True).best["step"] == 2


def test_a_run_of_a_lambda_needs_it_again(data, tmp_path):
    train(data, tmp_path / "run", lambda num_classes: tiny_detr(num_classes), *SIZE)
    with pytest.raises(ConfigError, match="pass the same detector or factory"):
        train(data, tmp_path / "run", None, resume=True)


def test_a_detector_is_trained_as_it_is(data, tmp_path):
    model = train(data, tmp_path / "first", tiny_detr, *SIZE).model
    before = {name: value.clone() for name, value in model.state_dict().items()}
    run = train(data, tmp_path / "second", model)
    assert any(not value.equal(before[name]) for name, value in model.state_dict().items())
    assert run.best["AP"] == sm.evaluate(run.model, data, workers=0).AP


def test_a_detector_of_other_classes_is_refused_by_name(data, tmp_path):
    model = tiny_detr(1)
    model.card = ModelCard("tiny", {}, Categories((0,), ("cat",)))
    with pytest.raises(ConfigError, match=r"classes 1 \('cat'\), but the data set has 6"):
        train(data, tmp_path / "refused", model)
