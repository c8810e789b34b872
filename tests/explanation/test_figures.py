"""Figures of attention: attended cells are colored or bright."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from known_models import (
    BOXES,
    CELLS,
    COLUMNS,
    ROWS,
    gray_image,
    known_detr,
    known_setmatch,
    mirrored,
    unsure_detr,
)
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


def test_attended_cells_have_the_color_of_their_object():
    """Query q attends to CELLS[q]. Only these cells are colored, each in its object's color."""
    explanation = first_layer(known_detr())
    figure = decoder_figure(explanation)
    order = explanation.queries.tolist()
    for cell in range(ROWS * COLUMNS):
        column, row = cell % COLUMNS, cell // COLUMNS
        # Not the exact middle, where a box edge or label may be drawn.
        pixel = color(figure, (column + 0.52) * SIDE, (row + 0.52) * SIDE)
        if cell in CELLS:
            expected = np.array(color_of(order.index(CELLS.index(cell))), dtype=float)
            assert np.abs(pixel - expected).max() < 80
        else:
            assert np.ptp(pixel) < 60 or _on_a_label(explanation, column, row)


def _on_a_label(explanation: Explanation, column: int, row: int) -> bool:
    """Whether lines or labels of a box may cross the middle of a cell."""
    x, y = (column + 0.52) / COLUMNS, (row + 0.52) / ROWS
    edges = [(cx - w / 2, cy - h / 2, cx + w / 2, cy + h / 2) for cx, cy, w, h in BOXES[1].tolist()]
    return any(
        x0 - 0.02 < x < max(x1, x0 + 0.12) and min(abs(y - y0), abs(y - y1)) < 0.1
        for x0, y0, x1, y1 in edges
    )


def test_the_encoder_figure_shows_the_cell_a_point_attends_to():
    """Every cell attends to its mirror image, the only bright cell of the tile."""
    explanation = explain(known_detr(), gray_image())
    figure = encoder_figure(explanation, [middle_px(1)])
    assert figure.size == (2 * 1000 + 16, 600)
    for cell in set(range(ROWS * COLUMNS)) - {1}:
        x, y = 1016 + (cell % COLUMNS + 0.5) * SIDE, (cell // COLUMNS + 0.5) * SIDE
        bright = color(figure, x, y).mean()
        assert bright > 140 if cell == mirrored(1) else bright < 60


def test_sampling_points_lie_on_the_figure():
    """The sampling point with the largest weight has the color of its detection."""
    explanation = explain(known_setmatch(), gray_image())
    cross_attention, query = explanation.trace.cross_attention, int(explanation.queries[0])
    assert isinstance(cross_attention, SamplingPoints)
    x, y = cross_attention.places[-1, 1, query, -1].tolist()
    pixel = color(decoder_figure(explanation), x * 1000, y * 600)
    assert np.abs(pixel - np.array(color_of(0))).max() < 60


def test_every_layer_has_a_tile():
    """Two tiles for two decoder layers; three if the encoder makes proposals."""
    assert layers_figure(explain(known_detr(), gray_image())).size == (2 * 600 + 16, 360 + 36)
    assert layers_figure(explain(known_setmatch(), gray_image())).size == (
        3 * 600 + 2 * 16,
        360 + 36,
    )


def test_all_figures_are_written(tmp_path: Path):
    """The returned paths are those of the three files."""
    paths = explain(known_detr(), gray_image()).save_figures(
        tmp_path / "new", [(1.0, 2.0), (100.0, 60.0)]
    )
    assert [path.name for path in paths] == ["decoder.png", "layers.png", "encoder.png"]
    assert sorted((tmp_path / "new").iterdir()) == sorted(paths)


def test_an_image_without_detections_has_figures(tmp_path: Path):
    """The encoder figure then shows four default points; the others show no detection."""
    paths = explain(unsure_detr(), gray_image()).save_figures(tmp_path)
    assert len(paths) == 3


@pytest.mark.parametrize("size", [(1, 1), (3, 2000), (2000, 3)])
def test_an_image_of_any_shape_has_figures(tmp_path: Path, size: tuple[int, int]):
    """Tiles of an image three pixels high have a pixel at least."""
    explanation = explain(known_detr(), gray_image().resize(size))
    for path in explanation.save_figures(tmp_path, [(size[0] / 2, size[1] / 2)] * 9):
        with Image.open(path) as figure:
            figure.load()


def test_a_model_without_encoder_has_no_encoder_figure(tmp_path: Path):
    """Points given for such a model raise an error that gives the reason."""
    explanation = explain(known_detr(encoder_layers=0), gray_image())
    assert len(explanation.save_figures(tmp_path)) == 2
    with pytest.raises(ConfigError, match="encoder has no layers"):
        explanation.save_figures(tmp_path, [(1.0, 2.0)])


@pytest.mark.parametrize("point", [(-1.0, 5.0), (160.0, 5.0), (5.0, 96.0), (float("nan"), 5.0)])
def test_a_point_outside_the_image_is_refused(tmp_path: Path, point: tuple[float, float]):
    """The error comes before any file is written."""
    with pytest.raises(ConfigError, match="outside the image of 160×96 pixels"):
        explain(known_detr(), gray_image()).save_figures(tmp_path, [point])
    assert not list(tmp_path.iterdir())


def test_more_points_than_fit_are_refused(tmp_path: Path):
    """With ten tiles, each would be too small."""
    with pytest.raises(ConfigError, match="at most 9"):
        explain(known_detr(), gray_image()).save_figures(tmp_path, [(1.0, 1.0)] * 10)
