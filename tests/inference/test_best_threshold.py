"""`threshold="best"`: the threshold of each class with the highest F1, stored by training."""

import json
from dataclasses import replace

import pytest
import torch

import setmatch as sm
from setmatch.cli import main
from setmatch.data.synthetic.scenes import write_scenes
from setmatch.errors import ConfigError, WeightsError
from setmatch.structures.detections import Detections
from setmatch.structures.metadata import Categories

PETS = Categories((1, 2, 3), ("cat", "dog", "owl"))
FAST = ("train.batch_size=4", "data.workers=0", "data.short_side_px=64", "data.long_side_px=64")


@pytest.fixture(scope="module")
def scenes(tmp_path_factory):
    folder = tmp_path_factory.mktemp("scenes")
    write_scenes(folder, 8, 4, 64, seed=0, workers=0)
    return folder


def test_each_class_has_its_threshold():
    scores, classes = torch.tensor([0.9, 0.6, 0.5, 0.4]), torch.tensor([0, 1, 0, 1])
    detections = Detections(torch.zeros(4, 4), scores, classes, PETS, (9, 9))
    chosen = detections.above(torch.tensor([0.55, 0.35, 0.0]))
    assert chosen.scores.tolist() == pytest.approx([0.9, 0.6, 0.4])


def test_the_best_threshold_of_a_class_maximizes_its_f1(scenes):
    """No other threshold among the scores gives more, counted with the report's own matches."""
    report = sm.evaluate(sm.load("scenes_n"), scenes, workers=0, report=scenes / "report.html")
    assert report.thresholds
    for each in report.diagnosis.classes:
        if each.threshold is None:
            assert each.name not in report.thresholds
            continue
        assert report.thresholds[each.name] == round(each.threshold.score, 4)
        assert each.threshold.f1 >= max(each.f1) - 1e-9


def test_training_stores_the_thresholds_and_predict_uses_them(scenes, tmp_path, capsys):
    run = sm.train(
        scenes, "setmatch_n", weights="scenes_n", out=tmp_path / "run", epochs=1, overrides=FAST
    )
    capsys.readouterr()
    model = run.model
    assert run.model is model  # read once, and said once
    assert dict(model.card.thresholds) == run.best["thresholds"] != {}
    image = next(scenes.rglob("*.jpg"), None) or next(scenes.rglob("*.png"))
    every = sm.predict(model, image, threshold=0)
    own = model.default_threshold
    least = [model.card.thresholds.get(each.name, own) for each in every]
    pairs = zip(every, least, strict=True)
    expected = [each.score for each, minimum in pairs if each.score > minimum]
    found = [each.score for each in sm.predict(model, image, threshold="best")]
    assert found == expected
    out = tmp_path / "out"
    arguments = ["predict", str(run.folder), str(image), "--out", str(out)]
    assert main([*arguments, "--threshold", "best"]) == 0
    assert len(json.loads((out / "detections.json").read_text())) == len(expected)


def test_a_model_without_best_thresholds_says_where_they_come_from(scenes):
    model = sm.load("scenes_n")
    model.card = replace(model.card, thresholds={})
    image = torch.zeros(3, 64, 64, dtype=torch.uint8)
    with pytest.raises(ConfigError, match="training with a validation split stores them"):
        sm.predict(model, image, threshold="best")


@pytest.mark.parametrize("score", [-0.1, 1.5, "high", None, float("nan")])
def test_a_card_with_impossible_thresholds_is_refused(tmp_path, score):
    sm.save(sm.load("scenes_n"), tmp_path)
    card = tmp_path / "model.json"
    tree = json.loads(card.read_text())
    tree["thresholds"] = {"disk": score}
    card.write_text(json.dumps(tree))
    with pytest.raises(WeightsError, match="threshold"):
        sm.load(tmp_path)
