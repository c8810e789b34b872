"""Plain figures: what was looked at is where the light and the colors are."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from known_models import BOXES, CELLS, COLUMNS, ROWS, gray_image, mirrored, sampling, seeing, unsure
from setmatch.errors import ConfigError
from setmatch.explanation.explain import Explanation, explain
from setmatch.explanation.figures import decoder_figure, encoder_figure, layers_figure
from setmatch.models.detector import Detector
from setmatch.ops.colors import color_of
from setmatch.structures.attention import AttentionMaps, SamplingPoints

SIDE = 1000 / COLUMNS  # of a cell in a figure


def middle_px(cell: int) -> tuple[float, float]:
    """The middle of a cell in pixels of the image."""
    return (cell % COLUMNS + 0.5) * 32, (cell // COLUMNS + 0.5) * 32


def color(figure: Image.Image, x: float, y: float) -> np.ndarray:
    pixel = figure.getpixel((int(x), int(y)))
    return np.array(pixel, dtype=float)


def first_layer(model: Detector) -> Explanation:
    """The explanation as if the first decoder layer, whose attention is known, were the last."""
    explanation = explain(model, gray_image())
    cross_attention = explanation.trace.cross_attention
    assert isinstance(cross_attention, AttentionMaps)
    object.__setattr__(cross_attention, "weights", cross_attention.weights[:1])
    return explanation


def test_an_object_colors_the_cell_it_looked_at():
    """Query q looks at cell c: there is the color of its object, and elsewhere there is none."""
    explanation = first_layer(seeing())
    figure = decoder_figure(explanation)
    order = explanation.queries.tolist()
    for cell in range(ROWS * COLUMNS):
        column, row = cell % COLUMNS, cell // COLUMNS
        # Off the middle, where a box or label might lie.
        seen = color(figure, (column + 0.52) * SIDE, (row + 0.52) * SIDE)
        if cell in CELLS:
            own = np.array(color_of(order.index(CELLS.index(cell))), dtype=float)
            assert np.abs(seen - own).max() < 80
        else:
            assert np.ptp(seen) < 60 or _on_a_label(explanation, column, row)


def _on_a_label(explanation: Explanation, column: int, row: int) -> bool:
    """Whether lines or labels of a box may cross the middle of a cell."""
    x, y = (column + 0.52) / COLUMNS, (row + 0.52) / ROWS
    edges = [(cx - w / 2, cy - h / 2, cx + w / 2, cy + h / 2) for cx, cy, w, h in BOXES[1].tolist()]
    return any(
        x0 - 0.02 < x < max(x1, x0 + 0.12) and min(abs(y - y0), abs(y - y1)) < 0.1
        for x0, y0, x1, y1 in edges
    )


def test_a_point_lights_the_place_it_looked_at():
    """Every place looks at its mirror image, which alone is left bright in its tile."""
    explanation = explain(seeing(), gray_image())
    figure = encoder_figure(explanation, [middle_px(1)])
    assert figure.size == (2 * 1000 + 16, 600)
    for cell in set(range(ROWS * COLUMNS)) - {1}:
        x, y = 1016 + (cell % COLUMNS + 0.5) * SIDE, (cell // COLUMNS + 0.5) * SIDE
        bright = color(figure, x, y).mean()
        assert bright > 140 if cell == mirrored(1) else bright < 60


def test_sampling_points_lie_on_the_figure():
    """At the heaviest point of the best answer is its color."""
    explanation = explain(sampling(), gray_image())
    cross_attention, query = explanation.trace.cross_attention, int(explanation.queries[0])
    assert isinstance(cross_attention, SamplingPoints)
    x, y = cross_attention.places[-1, 1, query, -1].tolist()
    seen = color(decoder_figure(explanation), x * 1000, y * 600)
    assert np.abs(seen - np.array(color_of(0))).max() < 60


def test_every_step_has_its_tile():
    """Two layers side by side; with the proposals before them, three."""
    assert layers_figure(explain(seeing(), gray_image())).size == (2 * 600 + 16, 360 + 36)
    assert layers_figure(explain(sampling(), gray_image())).size == (3 * 600 + 2 * 16, 360 + 36)


def test_all_figures_are_written(tmp_path: Path):
    """Three files, and the paths of just these."""
    paths = explain(seeing(), gray_image()).save_figures(
        tmp_path / "new", [(1.0, 2.0), (100.0, 60.0)]
    )
    assert [path.name for path in paths] == ["decoder.png", "layers.png", "encoder.png"]
    assert sorted((tmp_path / "new").iterdir()) == sorted(paths)


def test_nothing_found_still_gives_figures(tmp_path: Path):
    """Without an answer the encoder is asked at four places, and the other figures show none."""
    paths = explain(unsure(), gray_image()).save_figures(tmp_path)
    assert len(paths) == 3


@pytest.mark.parametrize("size", [(1, 1), (3, 2000), (2000, 3)])
def test_a_picture_of_any_shape_has_figures(tmp_path: Path, size: tuple[int, int]):
    """Tiles of an image three pixels high have a pixel at least."""
    explanation = explain(seeing(), gray_image().resize(size))
    for path in explanation.save_figures(tmp_path, [(size[0] / 2, size[1] / 2)] * 9):
        with Image.open(path) as figure:
            figure.load()


def test_no_encoder_gives_no_encoder_figure(tmp_path: Path):
    """And points that were asked for are an error that says why."""
    explanation = explain(seeing(encoder_layers=0), gray_image())
    assert len(explanation.save_figures(tmp_path)) == 2
    with pytest.raises(ConfigError, match="encoder has no layers"):
        explanation.save_figures(tmp_path, [(1.0, 2.0)])


@pytest.mark.parametrize("point", [(-1.0, 5.0), (160.0, 5.0), (5.0, 96.0), (float("nan"), 5.0)])
def test_a_point_off_the_picture_is_named(tmp_path: Path, point: tuple[float, float]):
    """It is refused before anything is written."""
    with pytest.raises(ConfigError, match="outside the image of 160×96 pixels"):
        explain(seeing(), gray_image()).save_figures(tmp_path, [point])
    assert not list(tmp_path.iterdir())


def test_more_points_than_fit_are_refused(tmp_path: Path):
    """Ten tiles would be too small to see anything."""
    with pytest.raises(ConfigError, match="at most 9"):
        explain(seeing(), gray_image()).save_figures(tmp_path, [(1.0, 1.0)] * 10)
