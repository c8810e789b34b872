"""Statistics of object queries, and their specializations."""

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from known_models import BOXES, CATEGORIES, QUERIES, known_detr, known_setmatch
from setmatch.data.open import open_dataset
from setmatch.errors import ConfigError, WeightsError
from setmatch.explanation.queries.statistics import QueryStatistics
from setmatch.explanation.queries.usage import save_query_statistics, study_queries
from setmatch.explanation.queries.usage_figure import (
    KINDS_OF_BOX,
    dot_colors,
    dot_shapes,
    query_figure,
)
from setmatch.structures.metadata import ModelCard

IMAGES = 40


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Images of two shapes without objects, because annotations are not used."""
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


def statistics_of(
    score: np.ndarray, cxcywh: np.ndarray, class_index: np.ndarray
) -> QueryStatistics:
    """Return statistics of IMAGES images with given predictions."""
    return QueryStatistics(
        ModelCard("made_up", {}, CATEGORIES),
        "none.json",
        0.5,
        False,
        cxcywh.astype(np.float32),
        score.astype(np.float32),
        class_index.astype(np.int64),
    )


@pytest.fixture
def specialists() -> QueryStatistics:
    """Query 0 detects anything, 1 only dogs, 2 only top left, 3 only one size, and 4 nothing."""
    random = np.random.default_rng(0)
    middle = random.uniform(0.1, 0.9, (IMAGES, 5, 2))
    side = np.exp(random.uniform(-3, -0.7, (IMAGES, 5, 1)))
    class_index = np.tile(np.arange(IMAGES) % 2, (5, 1)).T
    class_index[:, 1] = 1
    middle[:, 2] = 0.1 + 0.05 * middle[:, 2]
    side[:, 3] = 0.2
    score = np.full((IMAGES, 5), 0.9)
    score[:, 4] = 0.5
    return statistics_of(score, np.concatenate([middle, side, side], axis=-1), class_index)


def test_specializations_are_recognized(specialists: QueryStatistics):
    assert [use.specializes for use in specialists.uses] == [
        (),
        ("class",),
        ("place",),
        ("size",),
        (),
    ]


def test_a_query_that_never_detects_is_unused(specialists: QueryStatistics):
    assert specialists.to_json()["unused"] == [4]
    unused = specialists.uses[4]
    assert (unused.detections, unused.classes, unused.x, unused.side) == (0, {}, None, None)


def test_few_detections_are_no_specialization(specialists: QueryStatistics):
    """Nine detections of one class may be chance."""
    specialists.score[9:] = 0
    assert all(use.specializes == () for use in specialists.uses)
    assert specialists.uses[1].classes == {"dog": 9}


def test_usage_describes_only_detections_above_the_threshold(specialists: QueryStatistics):
    specialists.score[1:, 0] = 0.1
    use = specialists.uses[0]
    box = specialists.cxcywh[0, 0]
    assert use.detections == 1
    assert (use.x, use.y) == pytest.approx((box[0], box[1]), abs=1e-4)
    assert (use.side, use.spread) == pytest.approx((box[2], 0), abs=1e-4)


@pytest.mark.parametrize("batch_size", [1, 4])
def test_predictions_of_every_query_are_kept(data: Path, batch_size: int):
    """Box, class and score of the last layer, for every image."""
    study = study_queries(known_detr(), open_dataset(data, "val"), batch_size=batch_size, workers=0)
    assert study.cxcywh.shape == (3, QUERIES, 4)
    np.testing.assert_allclose(study.cxcywh, BOXES[1].expand(3, -1, -1), atol=1e-6)
    assert study.class_index.tolist() == [[0, 1, 0, 1]] * 3
    assert (np.diff(study.score[0]) < 0).all()
    assert not study.ranked


def test_missing_queries_have_no_box(data: Path):
    """A small image has fewer feature cells than the model has queries."""
    model = known_setmatch()
    model.queries.num_queries = model.num_queries = 400
    study = study_queries(model, open_dataset(data, "val"), workers=0)
    assert study.ranked
    given = 3 * 5 + 6 * 10 + 12 * 20  # places of all levels
    assert np.isfinite(study.cxcywh[:, :given]).all()
    assert np.isnan(study.cxcywh[:, given:]).all()
    assert (study.score[:, given:] == 0).all()
    assert query_figure(study, [0, 399]).width > 1000


def test_page_figure_and_json_file_are_written(specialists: QueryStatistics, tmp_path: Path):
    paths = save_query_statistics(specialists, tmp_path / "new", [3, 1])
    assert [path.name for path in paths] == ["queries.html", "queries.png", "queries.json"]
    written = json.loads(paths[2].read_text())
    assert written == json.loads(json.dumps(specialists.to_json()))
    assert written["queries"][1]["classes"] == {"dog": IMAGES}
    with Image.open(paths[1]) as figure:
        figure.load()


def test_a_query_out_of_range_is_refused(specialists: QueryStatistics, tmp_path: Path):
    with pytest.raises(ConfigError, match="query 5: the model has queries 0 to 4"):
        save_query_statistics(specialists, tmp_path, [5])


def test_dots_show_size_and_shape_of_boxes():
    boxes = np.array([[0.5, 0.5, w, h] for w, h in ((0.05, 0.05), (0.9, 0.4), (0.4, 0.9))])
    colors, shapes = dot_colors(boxes.astype(np.float32)), dot_shapes(boxes.astype(np.float32))
    distances = [np.abs(colors.astype(int) - kind.color).sum(1) for kind in KINDS_OF_BOX]
    assert np.argmin(distances, axis=0).tolist() == [0, 1, 2]
    assert [np.sign(x - y) for x, y in shapes.round(3)] == [0, 1, -1]
    np.testing.assert_allclose(shapes.prod(axis=1), 1)  # all dots have the same area


def test_a_box_is_a_dot_at_its_center():
    boxes = np.array([[[0.25, 0.75, 0.4, 0.9]]])
    study = statistics_of(np.array([[0.9]]), boxes, np.array([[0]]))
    pixels = np.asarray(query_figure(study).crop((28, 112, 228, 312)), dtype=int)
    blue = np.argwhere(pixels[..., 2] - pixels[..., 0] > 100)
    assert np.abs(blue.mean(0) - [150, 50]).max() < 1


def test_threshold_and_batch_size_are_checked_first(data: Path):
    index = open_dataset(data, "val")
    with pytest.raises(ConfigError, match="threshold = 2"):
        study_queries(known_detr(), index, threshold=2.0)
    with pytest.raises(ConfigError, match="batch_size = 0"):
        study_queries(known_detr(), index, batch_size=0)


def test_diverged_weights_raise_an_error(data: Path):
    model = known_setmatch()
    model.decoder.class_heads[-1].bias.data.fill_(float("nan"))
    with pytest.raises(WeightsError, match="diverged"):
        study_queries(model, open_dataset(data, "val"), workers=0)
