"""Query slots: every box is kept, and habits are told only where there are any."""

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from known_models import BOXES, NAMES, QUERIES, sampling, seeing
from setmatch.data.open import open_dataset
from setmatch.errors import ConfigError, WeightsError
from setmatch.explanation.query_usage import QueryStatistics, study_queries
from setmatch.explanation.query_usage_figure import dot_colors, slot_figure
from setmatch.structures.metadata import ModelCard

IMAGES = 40


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Pictures of two shapes, without objects: nobody needs annotations here."""
    folder = tmp_path_factory.mktemp("data")
    sizes = [(160, 96), (96, 160), (160, 96)]
    for number, size in enumerate(sizes):
        Image.new("RGB", size, (80, 120, 40 * number)).save(folder / f"{number}.png")
    images = [
        {"id": number, "file_name": f"{number}.png", "width": width, "height": height}
        for number, (width, height) in enumerate(sizes)
    ]
    coco = {"images": images, "annotations": [], "categories": [{"id": 1, "name": "cat"}]}
    (folder / "all.json").write_text(json.dumps(coco))
    return folder / "all.json"


def made_up(score: np.ndarray, cxcywh: np.ndarray, class_index: np.ndarray) -> QueryStatistics:
    """A study of IMAGES images whose answers are given."""
    return QueryStatistics(
        ModelCard("made_up", {}, NAMES),
        "none.json",
        0.5,
        False,
        cxcywh.astype(np.float32),
        score.astype(np.float32),
        class_index.astype(np.int64),
    )


@pytest.fixture
def habits() -> QueryStatistics:
    """Query 0 answers anything; 1 only dogs; 2 only top left; 3 only one size; 4 never."""
    random = np.random.default_rng(0)
    middle = random.uniform(0.1, 0.9, (IMAGES, 5, 2))
    side = np.exp(random.uniform(-3, -0.7, (IMAGES, 5, 1)))
    class_index = np.tile(np.arange(IMAGES) % 2, (5, 1)).T
    class_index[:, 1] = 1
    middle[:, 2] = 0.1 + 0.05 * middle[:, 2]
    side[:, 3] = 0.2
    score = np.full((IMAGES, 5), 0.9)
    score[:, 4] = 0.5
    return made_up(score, np.concatenate([middle, side, side], axis=-1), class_index)


def test_habits_are_told(habits: QueryStatistics):
    """Each query specializes in what it was made to, and in nothing else."""
    assert [use.specializes for use in habits.uses] == [(), ("class",), ("place",), ("size",), ()]


def test_a_query_that_never_answers_is_dead(habits: QueryStatistics):
    """Its score never passes the threshold: no answer, no class, no place."""
    assert habits.to_json()["dead"] == [4]
    dead = habits.uses[4]
    assert (dead.answers, dead.classes, dead.x, dead.side) == (0, {}, None, None)


def test_a_few_answers_are_no_habit(habits: QueryStatistics):
    """Nine answers of one class may be chance."""
    habits.score[9:] = 0
    assert all(use.specializes == () for use in habits.uses)
    assert habits.uses[1].classes == {"dog": 9}


def test_the_numbers_are_those_of_the_answers(habits: QueryStatistics):
    """Only images where a query answers count: their middle, their size."""
    habits.score[1:, 0] = 0.1
    use = habits.uses[0]
    box = habits.cxcywh[0, 0]
    assert use.answers == 1
    assert (use.x, use.y) == pytest.approx((box[0], box[1]), abs=1e-4)
    assert (use.side, use.spread) == pytest.approx((box[2], 0), abs=1e-4)


@pytest.mark.parametrize("batch_size", [1, 4])
def test_what_a_model_predicts_is_kept(data: Path, batch_size: int):
    """Every query of every image: box, class and score of the last layer."""
    study = study_queries(seeing(), open_dataset(data, "val"), batch_size=batch_size, workers=0)
    assert study.cxcywh.shape == (3, QUERIES, 4)
    np.testing.assert_allclose(study.cxcywh, BOXES[1].expand(3, -1, -1), atol=1e-6)
    assert study.class_index.tolist() == [[0, 1, 0, 1]] * 3
    assert (np.diff(study.score[0]) < 0).all()
    assert not study.ranked


def test_queries_that_an_image_does_not_give_have_no_box(data: Path):
    """A picture with fewer places than the model has queries leaves the others empty."""
    model = sampling()
    model.queries.num_queries = model.num_queries = 400
    study = study_queries(model, open_dataset(data, "val"), workers=0)
    assert study.ranked
    given = 3 * 5 + 6 * 10 + 12 * 20  # places of all levels
    assert np.isfinite(study.cxcywh[:, :given]).all()
    assert np.isnan(study.cxcywh[:, given:]).all()
    assert (study.score[:, given:] == 0).all()
    assert slot_figure(study, [0, 399]).width > 1000


def test_both_files_are_written(habits: QueryStatistics, tmp_path: Path):
    """A picture that opens, and JSON that says what the study says."""
    paths = habits.save(tmp_path / "new", [3, 1])
    assert [path.name for path in paths] == ["queries.png", "queries.json"]
    written = json.loads(paths[1].read_text())
    assert written == json.loads(json.dumps(habits.to_json()))
    assert written["queries"][1]["classes"] == {"dog": IMAGES}
    with Image.open(paths[0]) as picture:
        picture.load()


def test_a_query_that_is_not_there_is_refused(habits: QueryStatistics, tmp_path: Path):
    """With the numbers that there are."""
    with pytest.raises(ConfigError, match="query 5: the model has queries 0 to 4"):
        habits.save(tmp_path, [5])


def test_dots_say_size_and_shape():
    """Small boxes are green, large wide ones red, large tall ones blue."""
    boxes = np.array([[0.5, 0.5, w, h] for w, h in ((0.05, 0.05), (0.9, 0.4), (0.4, 0.9))])
    colors = dot_colors(boxes.astype(np.float32))
    assert [("red", "green", "blue")[int(c.argmax())] for c in colors] == ["green", "red", "blue"]


def test_a_box_is_a_dot_at_its_middle():
    """A single large tall box leaves a blue dot in the panel, where its middle is."""
    boxes = np.array([[[0.25, 0.75, 0.4, 0.9]]])
    study = made_up(np.array([[0.9]]), boxes, np.array([[0]]))
    pixels = np.asarray(slot_figure(study).crop((28, 112, 228, 312)), dtype=int)
    blue = np.argwhere(pixels[..., 2] - pixels[..., 0] > 100)
    assert np.abs(blue.mean(0) - [150, 50]).max() < 1


def test_thresholds_and_batches_are_checked(data: Path):
    """Before the first image is read."""
    index = open_dataset(data, "val")
    with pytest.raises(ConfigError, match="threshold = 2"):
        study_queries(seeing(), index, threshold=2.0)
    with pytest.raises(ConfigError, match="batch_size = 0"):
        study_queries(seeing(), index, batch_size=0)


def test_diverged_weights_are_named(data: Path):
    """Answers that are not finite are no answers."""
    model = sampling()
    model.decoder.class_heads[-1].bias.data.fill_(float("nan"))
    with pytest.raises(WeightsError, match="diverged"):
        study_queries(model, open_dataset(data, "val"), workers=0)
