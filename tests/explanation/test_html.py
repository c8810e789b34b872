"""The explain page in a browser: clicks show the right attention, boxes and numbers."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image

from browser import OpenPage
from known_models import (
    BOXES,
    CELLS,
    COLUMNS,
    QUERIES,
    ROWS,
    gray_image,
    known_detr,
    known_setmatch,
    mirrored,
    unsure_detr,
)
from setmatch.errors import ConfigError, DataError
from setmatch.explanation.explain import explain
from setmatch.explanation.html import page_facts
from setmatch.models.registry import build
from setmatch.structures.attention import AttentionMaps
from setmatch.structures.metadata import Categories, ModelCard, Preprocessing
from thorough import usually

LIMIT_BYTES = 8_000_000
# Brightness of each cell of the overlay, read in the middle of the cell.
BRIGHTNESS = """([rows, columns]) => {
  const overlay = document.getElementById("overlay");
  const context = overlay.getContext("2d");
  const brightness = [];
  for (let row = 0; row < rows; row++) for (let column = 0; column < columns; column++) {
    const x = Math.floor((column + 0.5) * overlay.width / columns);
    const y = Math.floor((row + 0.5) * overlay.height / rows);
    brightness.push(255 - context.getImageData(x, y, 1, 1).data[3]);
  }
  return brightness;
}"""


@pytest.fixture(scope="module")
def pages(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Pages of models whose attention is known, and of one with low scores."""
    folder = tmp_path_factory.mktemp("pages")
    models = {
        "detr": known_detr(),
        "no_encoder": known_detr(encoder_layers=0),
        "setmatch": known_setmatch(),
        "no_detections": unsure_detr(),
    }
    for name, model in models.items():
        explain(model, gray_image()).save(folder / f"{name}.html")
    return {name: folder / f"{name}.html" for name in models}


def ready(open_page: OpenPage, path: Path, **options: Any) -> Any:
    page = open_page(path, **options)
    page.wait_for_selector("body[data-ready]")
    return page


def brightness(page: Any) -> list[int]:
    return page.evaluate(BRIGHTNESS, [ROWS, COLUMNS])


def brightest(page: Any) -> int:
    cells = brightness(page)
    assert max(cells) == 255, "the most attended cell is darkened"
    assert sorted(cells)[-2] < 128, "another cell is not darkened"
    return cells.index(max(cells))


def at(page: Any, x: float, y: float) -> tuple[float, float]:
    """Screen position of a point of the image, given as fractions."""
    box = page.locator("#stage").bounding_box()
    return box["x"] + x * box["width"], box["y"] + y * box["height"]


def middle(cell: int) -> tuple[float, float]:
    return (cell % COLUMNS + 0.5) / COLUMNS, (cell // COLUMNS + 0.5) / ROWS


def shown_boxes(page: Any) -> dict[int, list[float]]:
    """Boxes on the page by query: x, y, width, height in pixels of the image."""
    script = """() => [...document.querySelectorAll("#boxes .box")].map(
      (box) => [box.dataset.query, ...["x", "y", "width", "height"].map(
        (side) => Number(box.lastChild.getAttribute(side)))])"""
    return {int(query): sides for query, *sides in page.evaluate(script)}


def test_the_page_says_what_it_waits_for(open_page: OpenPage, pages: dict[str, Path]):
    """The image is there; controls work when the attention maps are unpacked, and not before."""
    page = ready(open_page, pages["detr"])
    assert page.locator("#loading").is_hidden()
    assert not page.evaluate("document.querySelector('main').inert")
    page.evaluate(
        """() => {
          delete document.body.dataset.ready;
          unpackMaps = () => new Promise(() => {});  // never ends
          start();
        }"""
    )
    assert page.locator("#loading").is_visible()
    assert page.inner_text("#verdict") == "Unpacking self-attention …"
    assert page.evaluate("document.querySelector('main').inert")
    assert page.evaluate("document.getElementById('image').naturalWidth") > 0


def test_damaged_maps_are_reported_on_the_page(
    open_page: OpenPage, pages: dict[str, Path], tmp_path: Path
):
    text = pages["detr"].read_text("utf-8")
    start = text.index('"data": "', text.index('"selfAttention"')) + 9
    damaged = tmp_path / "damaged.html"
    damaged.write_text(text[:start] + "AAAA" + text[start + 4 :], encoding="utf-8")
    page = open_page(damaged)
    page.wait_for_selector("body[data-failed]")
    assert "The attention maps cannot be unpacked" in page.inner_text("#verdict")
    assert page.locator("#loading").is_hidden()


def test_feature_levels_differ_by_shape_too(open_page: OpenPage, pages: dict[str, Path]):
    """A point of each level covers another set of pixels."""
    page = ready(open_page, pages["setmatch"])
    shapes = page.evaluate(
        """() => LEVEL_COLORS.map((color, level) => {
          const canvas = document.createElement("canvas");
          [canvas.width, canvas.height] = [40, 40];
          paintPoints(canvas, [{ x: 0.5, y: 0.5, weight: 1, level }], 10, 1);
          const { data } = canvas.getContext("2d").getImageData(0, 0, 40, 40);
          return [...data.filter((_, at) => at % 4 === 3)].map((alpha) => Number(alpha > 99));
        })"""
    )
    areas = [sum(shape) for shape in shapes]
    assert max(areas) < 1.35 * min(areas)
    for number, shape in enumerate(shapes):
        for other in shapes[:number]:
            assert sum(a != b for a, b in zip(shape, other, strict=True)) > 0.1 * min(areas)


def test_hovering_a_box_shows_the_attention_of_its_query(
    open_page: OpenPage, pages: dict[str, Path]
):
    """Query q attends to cell c alone: with the mouse over the box of q, only c is bright."""
    page = ready(open_page, pages["detr"])
    page.get_by_label("decoder layer 1, head 1").click()
    for query, box in enumerate(BOXES[0]):
        page.mouse.move(*at(page, float(box[0]), float(box[1])))
        assert brightest(page) == CELLS[query]
    page.mouse.move(0, 0)
    assert brightest(page) == CELLS[0], "the selected query again"


def test_a_tap_on_a_phone_selects_a_query(open_page: OpenPage, pages: dict[str, Path]):
    page = ready(open_page, pages["detr"], width=390, height=844, touch=True)
    for query, box in enumerate(BOXES[1]):
        page.touchscreen.tap(*at(page, float(box[0]), float(box[1])))
        assert page.inner_text("#selected h2") == f"Query {query}"


def test_uniform_attention_darkens_no_cell(open_page: OpenPage, pages: dict[str, Path]):
    """The second layer of the known model attends to all cells equally."""
    page = ready(open_page, pages["detr"])
    assert set(brightness(page)) == {255}


def test_a_click_shows_the_encoder_attention_of_the_cell(
    open_page: OpenPage, pages: dict[str, Path]
):
    """Every cell attends to its mirror image alone."""
    page = ready(open_page, pages["detr"])
    page.get_by_role("button", name="Encoder attention").click()
    for cell in range(ROWS * COLUMNS):
        page.mouse.click(*at(page, *middle(cell)))
        assert brightest(page) == mirrored(cell)


def test_a_click_beside_the_boxes_opens_encoder_attention(
    open_page: OpenPage, pages: dict[str, Path]
):
    page = ready(open_page, pages["detr"])
    corner = ROWS * COLUMNS - 1
    page.mouse.click(*at(page, *middle(corner)))
    assert brightest(page) == mirrored(corner)


def test_the_slider_moves_the_boxes(open_page: OpenPage, pages: dict[str, Path]):
    """At every step every box is the one that the layer predicted."""
    page = ready(open_page, pages["detr"])
    page.locator("#all-queries").check()
    for step in (0, 1, 0):
        page.locator("#step").fill(str(step))
        shown = shown_boxes(page)
        assert sorted(shown) == list(range(QUERIES))
        for query, sides in shown.items():
            cx, cy, w, h = BOXES[step, query].tolist()
            expected = [(cx - w / 2) * 160, (cy - h / 2) * 96, w * 160, h * 96]
            assert sides == pytest.approx(expected, abs=0.02)


def test_the_first_step_is_the_encoder_proposal(open_page: OpenPage, pages: dict[str, Path]):
    """Models that select queries from the encoder have one step more than decoder layers."""
    page = ready(open_page, pages["setmatch"])
    assert page.get_attribute("#step", "max") == "2"
    page.locator("#step").fill("0")
    assert page.inner_text("#step-name") == "encoder proposal"
    facts = page_facts(explain(known_setmatch(), gray_image()))
    assert facts["predictions"][0]["boxes"] != facts["predictions"][1]["boxes"]


def stop_clock(page: Any) -> None:
    """Let the page's timers wait for the test; after `install` alone they run on by themselves."""
    page.clock.install(time=0)
    page.clock.pause_at(3_600_000)


def test_the_play_button_goes_through_the_steps(open_page: OpenPage, pages: dict[str, Path]):
    """It starts at the first step and ends at the last."""
    page = ready(open_page, pages["setmatch"], own=True)
    stop_clock(page)
    page.locator("#play").click()
    shown = []
    for _ in range(4):
        page.clock.run_for(900)
        shown.append(page.input_value("#step"))
    assert (shown[0], shown[-1]) == ("1", "2")
    page.locator("#play").click()
    page.clock.run_for(1)
    assert page.input_value("#step") == "0"


def test_moving_the_slider_stops_the_play(open_page: OpenPage, pages: dict[str, Path]):
    page = ready(open_page, pages["setmatch"], own=True)
    stop_clock(page)
    page.locator("#play").click()
    page.clock.run_for(900)
    assert page.input_value("#step") == "1"
    page.locator("#step").fill("0")
    page.clock.run_for(10_000)
    assert page.input_value("#step") == "0"


def test_self_attention_lists_the_attended_queries(open_page: OpenPage, pages: dict[str, Path]):
    """Every query attends to the next one alone, and a line leads there."""
    page = ready(open_page, pages["detr"])
    page.get_by_role("button", name="Self-attention").click()
    for query in range(QUERIES):
        page.locator("#list button").nth(query).click()
        attended = page.inner_text("#selected tr:first-child")
        assert attended.startswith(f"{(query + 1) % QUERIES}:")
        assert attended.endswith("100%")
    assert page.locator("#boxes line").count() == QUERIES - 1


def test_sampling_points_are_painted_at_their_positions(
    open_page: OpenPage, pages: dict[str, Path]
):
    """The point with the largest weight samples the coarsest level and has its color."""
    page = ready(open_page, pages["setmatch"])
    page.get_by_label("decoder layer 2, head 2").click()
    explanation = explain(known_setmatch(), gray_image())
    cross_attention, query = explanation.trace.cross_attention, int(explanation.queries[0])
    assert not isinstance(cross_attention, AttentionMaps)
    x, y = cross_attention.places[1, 1, query, -1].tolist()
    assert 0 < x < 1, "the point is inside the image"
    color = page.evaluate(
        """([x, y]) => {
          const overlay = document.getElementById("overlay");
          return [...overlay.getContext("2d").getImageData(
            Math.floor(x * overlay.width), Math.floor(y * overlay.height), 1, 1).data];
        }""",
        [x, y],
    )
    red, green, blue, _ = color
    assert red > 190
    assert green < 100
    assert 110 < blue < 190, "the color of the coarsest level"


def test_the_best_threshold_of_each_class_holds_until_the_slider_moves(
    open_page: OpenPage, tmp_path: Path
):
    model = known_detr()
    every = explain(model, gray_image(), threshold=0)
    name = model.card.categories.name(int(every.detections.classes[0]))
    others = [each for each in model.card.categories.names if each != name]
    card = replace(model.card, thresholds={name: 0.0} | dict.fromkeys(others, 1.0))
    model.card = card
    explanation = explain(model, gray_image(), threshold="best")
    explanation.save(tmp_path / "best.html")
    count = len(explanation.shown(explanation.detections))
    assert 0 < count < len(every.detections)
    page = ready(open_page, tmp_path / "best.html")
    verdict = page.locator("#verdict")
    assert f"detects {count} object" in verdict.inner_text()
    assert "above the best threshold of its class" in verdict.inner_text()
    assert page.locator("#threshold-value").inner_text() == "best"
    page.locator("#threshold").fill("0")
    assert f"detects {len(every.detections)} objects" in verdict.inner_text()


def test_the_threshold_slider_filters_detections(open_page: OpenPage, pages: dict[str, Path]):
    page = ready(open_page, pages["detr"])
    assert page.locator("#list button").count() == QUERIES
    page.locator("#threshold").fill("100")
    assert page.locator("#list button").count() == 0
    assert "detects nothing with a score above 100%" in page.inner_text("#verdict")


def test_an_image_without_detections_names_the_best_one(
    open_page: OpenPage, pages: dict[str, Path]
):
    page = ready(open_page, pages["no_detections"])
    assert "detects nothing with a score above 70%" in page.inner_text("#verdict")
    assert "The best one is" in page.inner_text("#list")


def test_a_model_without_encoder_has_no_encoder_attention(
    open_page: OpenPage, pages: dict[str, Path]
):
    """The button is disabled, and a click beside the boxes does nothing."""
    page = ready(open_page, pages["no_encoder"])
    assert "no encoder" in page.inner_text("#verdict")
    assert page.get_by_role("button", name="Encoder attention").is_disabled()
    page.mouse.click(*at(page, *middle(ROWS * COLUMNS - 1)))
    assert page.inner_text("#selected h2") == "Query 0"


@pytest.mark.parametrize("name", ["detr", "setmatch"])
@pytest.mark.parametrize("width", [360, 768, 1280])
def test_the_page_fits_the_screen(
    open_page: OpenPage, pages: dict[str, Path], name: str, width: int
):
    """No horizontal scrolling, on a phone either, and the image is large enough."""
    page = ready(open_page, pages[name], width=width, height=800)
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    assert page.locator("#stage").bounding_box()["width"] > 300


def test_names_cannot_run(open_page: OpenPage, tmp_path: Path):
    """A file or class whose name contains a script is shown as text."""
    script_name = "</script><script>console.error('ran')</script><img src=x onerror=alert(1)>"
    model = known_detr()
    model.card = ModelCard(
        "detr_r18_tiny", {}, Categories((1, 2), (script_name, "&amp;")), model.card.preprocessing
    )
    path = tmp_path / "<b>$name.png"
    gray_image().save(path)
    explain(model, path).save(tmp_path / "page.html")
    page = ready(open_page, tmp_path / "page.html")
    assert page.inner_text("#title") == "Explanation of <b>$name.png"
    assert script_name in page.inner_text("#list")


@pytest.mark.thorough
def test_the_page_of_a_large_model_stays_below_8_mb(tmp_path: Path):
    """Six layers, eight heads, a hundred queries, and an image of noise.

    The test takes some seconds: a smaller model would not come near the limit.
    """
    torch.manual_seed(0)
    shape = {"dim": 64, "ffn_dim": 8, "encoder_layers": 6, "decoder_layers": 6, "num_queries": 100}
    model = build(
        ModelCard("detr_r18_tiny", shape, Categories((1,), ("a",)), Preprocessing(800, 1333))
    )
    noise = torch.randint(0, 256, (800, 1333, 3), dtype=torch.uint8)
    explain(model, Image.fromarray(noise.numpy())).save(tmp_path / "page.html")
    assert (tmp_path / "page.html").stat().st_size < LIMIT_BYTES


def test_only_the_best_300_queries_are_on_the_page():
    torch.manual_seed(0)
    shape = {"dim": 32, "heads": 2, "ffn_dim": 8, "num_queries": 310, "decoder_layers": 1}
    categories, preprocessing = Categories((1,), ("a",)), Preprocessing(64, 96)
    explanation = explain(
        build(ModelCard("detr_r18_tiny", shape, categories, preprocessing)), gray_image()
    )
    facts = page_facts(explanation)
    assert (len(facts["queryIds"]), facts["numQueries"]) == (300, 310)
    assert facts["detections"][0]["queryId"] == int(explanation.queries[0])
    assert len(facts["predictions"][0]["boxes"]) == len(facts["detections"]) == 300


def test_invalid_arguments_are_clear_errors(tmp_path: Path):
    """An unreadable image, a missing file, a threshold above 1, a folder as page."""
    (tmp_path / "text.jpg").write_text("no image")
    with pytest.raises(DataError, match=r"text\.jpg: cannot be read"):
        explain(known_detr(), tmp_path / "text.jpg")
    with pytest.raises(DataError, match=r"none\.jpg: no such image"):
        explain(known_detr(), tmp_path / "none.jpg")
    with pytest.raises(ConfigError, match=r"threshold = 1\.5"):
        explain(known_detr(), gray_image(), threshold=1.5)
    with pytest.raises(ConfigError, match="a folder"):
        explain(known_detr(), gray_image()).save(tmp_path)


@pytest.mark.parametrize("size", usually([(3, 2000), (2000, 3)], (3, 2000)))
def test_an_image_of_any_shape_fits_a_page(
    open_page: OpenPage, tmp_path: Path, size: tuple[int, int]
):
    """A strip three pixels wide does not make the page very long."""
    explain(known_detr(), gray_image().resize(size)).save(tmp_path / "why.html")
    page = ready(open_page, tmp_path / "why.html")
    assert page.evaluate("document.documentElement.scrollHeight") < 4000
