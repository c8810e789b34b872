"""The page that says why, in a browser: what is clicked is answered, and answered truly."""

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
    mirrored,
    picture,
    sampling,
    seeing,
    unsure,
)
from setmatch.errors import ConfigError, DataError
from setmatch.explanation.explain import explain
from setmatch.explanation.html import page_facts
from setmatch.models.registry import build
from setmatch.structures.attention import AttentionMaps
from setmatch.structures.metadata import Categories, ModelCard, Preprocessing

LIMIT_BYTES = 8_000_000
# How much of the picture each cell of the model lets through, read in the middle of the cell.
LIGHT = """([rows, columns]) => {
  const veil = document.getElementById("veil");
  const brush = veil.getContext("2d");
  const light = [];
  for (let row = 0; row < rows; row++) for (let column = 0; column < columns; column++) {
    const x = Math.floor((column + 0.5) * veil.width / columns);
    const y = Math.floor((row + 0.5) * veil.height / rows);
    light.push(255 - brush.getImageData(x, y, 1, 1).data[3]);
  }
  return light;
}"""


@pytest.fixture(scope="module")
def pages(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Pages of models that are known, and of one that is unsure."""
    folder = tmp_path_factory.mktemp("pages")
    models = {
        "seeing": seeing(),
        "blind": seeing(encoder_layers=0),
        "sampling": sampling(),
        "unsure": unsure(),
    }
    for name, model in models.items():
        explain(model, picture()).save(folder / f"{name}.html")
    return {name: folder / f"{name}.html" for name in models}


def ready(open_page: OpenPage, path: Path, **options: Any) -> Any:
    page = open_page(path, **options)
    page.wait_for_selector("body[data-ready]")
    return page


def light(page: Any) -> list[int]:
    return page.evaluate(LIGHT, [ROWS, COLUMNS])


def brightest(page: Any) -> int:
    cells = light(page)
    assert max(cells) == 255, "what was looked at most is seen as it is"
    assert sorted(cells)[-2] < 128, "and nothing else is"
    return cells.index(max(cells))


def at(page: Any, x: float, y: float) -> tuple[float, float]:
    """Where on the screen a point of the picture (fractions) lies."""
    box = page.locator("#stage").bounding_box()
    return box["x"] + x * box["width"], box["y"] + y * box["height"]


def middle(cell: int) -> tuple[float, float]:
    return (cell % COLUMNS + 0.5) / COLUMNS, (cell // COLUMNS + 0.5) / ROWS


def shown_boxes(page: Any) -> dict[int, list[float]]:
    """Where the page draws the box of each query: x, y, width, height in pixels of the picture."""
    script = """() => [...document.querySelectorAll("#boxes .box")].map(
      (box) => [box.dataset.query, ...["x", "y", "width", "height"].map(
        (side) => Number(box.lastChild.getAttribute(side)))])"""
    return {int(query): sides for query, *sides in page.evaluate(script)}


def test_hovering_a_box_shows_what_its_query_looked_at(open_page: OpenPage, pages: dict[str, Path]):
    """Query q looks at cell c: with the mouse over the box of q, c alone stays bright."""
    page = ready(open_page, pages["seeing"])
    page.get_by_label("decoder layer 1, head 1").click()
    for query, box in enumerate(BOXES[0]):
        page.mouse.move(*at(page, float(box[0]), float(box[1])))
        assert brightest(page) == CELLS[query]
    page.mouse.move(0, 0)
    assert brightest(page) == CELLS[0], "the box that was held before"


def test_a_tap_on_a_phone_holds_a_box(open_page: OpenPage, pages: dict[str, Path]):
    """After a tap the card names the query whose box was tapped."""
    page = ready(open_page, pages["seeing"], width=390, height=844, touch=True)
    for query, box in enumerate(BOXES[1]):
        page.touchscreen.tap(*at(page, float(box[0]), float(box[1])))
        assert page.inner_text("#chosen h2") == f"Query {query}"


def test_a_layer_that_looked_everywhere_is_shown_to(open_page: OpenPage, pages: dict[str, Path]):
    """The second layer of the known model looks everywhere alike: no cell is darker."""
    page = ready(open_page, pages["seeing"])
    assert set(light(page)) == {255}


def test_every_place_answers_a_click(open_page: OpenPage, pages: dict[str, Path]):
    """Every cell looks at its mirror image, and a click on it shows just that."""
    page = ready(open_page, pages["seeing"])
    page.get_by_role("button", name="What a place looked at").click()
    for cell in range(ROWS * COLUMNS):
        page.mouse.click(*at(page, *middle(cell)))
        assert brightest(page) == mirrored(cell)


def test_a_click_beside_the_boxes_asks_the_place(open_page: OpenPage, pages: dict[str, Path]):
    """Nobody has to find the button first."""
    page = ready(open_page, pages["seeing"])
    corner = ROWS * COLUMNS - 1
    page.mouse.click(*at(page, *middle(corner)))
    assert brightest(page) == mirrored(corner)


def test_the_slider_moves_the_boxes(open_page: OpenPage, pages: dict[str, Path]):
    """At every step every box lies where that layer put it."""
    page = ready(open_page, pages["seeing"])
    page.locator("#every").check()
    for step in (0, 1, 0):
        page.locator("#step").fill(str(step))
        shown = shown_boxes(page)
        assert sorted(shown) == list(range(QUERIES))
        for query, sides in shown.items():
            cx, cy, w, h = BOXES[step, query].tolist()
            expected = [(cx - w / 2) * 160, (cy - h / 2) * 96, w * 160, h * 96]
            assert sides == pytest.approx(expected, abs=0.02)


def test_a_proposal_comes_before_the_first_layer(open_page: OpenPage, pages: dict[str, Path]):
    """Where the image chose the queries, the slider begins there."""
    page = ready(open_page, pages["sampling"])
    assert page.get_attribute("#step", "max") == "2"
    page.locator("#step").fill("0")
    assert page.inner_text("#step-name") == "the encoder's proposal"
    facts = page_facts(explain(sampling(), picture()))
    assert facts["answers"][0]["boxes"] != facts["answers"][1]["boxes"]


def test_the_play_button_goes_through_the_steps(open_page: OpenPage, pages: dict[str, Path]):
    """It begins with the first step and ends with the answer."""
    page = ready(open_page, pages["sampling"])
    page.locator("#play").click()
    page.wait_for_function("document.getElementById('step').value === '0'")
    page.wait_for_function("document.getElementById('step').value === '2'")


def test_a_hand_on_the_slider_stops_the_play(open_page: OpenPage, pages: dict[str, Path]):
    """Whoever moves the slider while it plays finds it where it was put."""
    page = ready(open_page, pages["sampling"])
    page.locator("#play").click()
    page.locator("#step").fill("0")
    page.wait_for_timeout(2200)
    assert page.input_value("#step") == "0"


def test_a_query_names_whom_it_listened_to(open_page: OpenPage, pages: dict[str, Path]):
    """Every query listens to the next one, wholly; a line leads there."""
    page = ready(open_page, pages["seeing"])
    page.get_by_role("button", name="Whom it listened to").click()
    for query in range(QUERIES):
        page.locator("#list button").nth(query).click()
        told = page.inner_text("#chosen tr:first-child")
        assert told.startswith(f"{(query + 1) % QUERIES}:")
        assert told.endswith("100%")
    assert page.locator("#boxes line").count() == QUERIES - 1


def test_sampling_points_are_painted_where_they_are(open_page: OpenPage, pages: dict[str, Path]):
    """At the heaviest point, which is of the coarsest level, lies a dot of that level's color."""
    page = ready(open_page, pages["sampling"])
    page.get_by_label("decoder layer 2, head 2").click()
    explanation = explain(sampling(), picture())
    cross_attention, query = explanation.trace.cross_attention, int(explanation.queries[0])
    assert not isinstance(cross_attention, AttentionMaps)
    x, y = cross_attention.places[1, 1, query, -1].tolist()
    assert 0 < x < 1, "or there would be nothing to see"
    color = page.evaluate(
        """([x, y]) => {
          const veil = document.getElementById("veil");
          return [...veil.getContext("2d").getImageData(
            Math.floor(x * veil.width), Math.floor(y * veil.height), 1, 1).data];
        }""",
        [x, y],
    )
    red, green, blue, _ = color
    assert red > 190
    assert green < 100
    assert 110 < blue < 190, "the color of the coarsest level"


def test_the_score_slider_decides_what_is_shown(open_page: OpenPage, pages: dict[str, Path]):
    """Above 95% no answer is left, and the page says what comes nearest."""
    page = ready(open_page, pages["seeing"])
    assert page.locator("#list button").count() == QUERIES
    page.locator("#threshold").fill("100")
    assert page.locator("#list button").count() == 0
    assert "finds nothing that scores above 100%" in page.inner_text("#verdict")


def test_a_picture_with_nothing_found_says_so(open_page: OpenPage, pages: dict[str, Path]):
    """The page opens, says that nothing was found, and names the best guess."""
    page = ready(open_page, pages["unsure"])
    assert "finds nothing that scores above 50%" in page.inner_text("#verdict")
    assert "The best guess is" in page.inner_text("#list")


def test_a_model_without_encoder_says_so(open_page: OpenPage, pages: dict[str, Path]):
    """There is no place to ask: the button is off, and a click beside the boxes does nothing."""
    page = ready(open_page, pages["blind"])
    assert "no encoder" in page.inner_text("#verdict")
    assert page.get_by_role("button", name="What a place looked at").is_disabled()
    page.mouse.click(*at(page, *middle(ROWS * COLUMNS - 1)))
    assert page.inner_text("#chosen h2") == "Query 0"


@pytest.mark.parametrize("name", ["seeing", "sampling"])
@pytest.mark.parametrize("width", [360, 768, 1280])
def test_the_page_is_as_wide_as_the_screen(
    open_page: OpenPage, pages: dict[str, Path], name: str, width: int
):
    """Nothing has to be scrolled sideways, on a phone either, and the picture is no stamp."""
    page = ready(open_page, pages[name], width=width, height=800)
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    assert page.locator("#stage").bounding_box()["width"] > 300


def test_names_cannot_run(open_page: OpenPage, tmp_path: Path):
    """A file or class whose name is a script is shown by its name."""
    evil = "</script><script>console.error('ran')</script><img src=x onerror=alert(1)>"
    model = seeing()
    model.card = ModelCard(
        "detr_r18_tiny", {}, Categories((1, 2), (evil, "&amp;")), model.card.preprocessing
    )
    path = tmp_path / "<b>$name.png"
    picture().save(path)
    explain(model, path).save(tmp_path / "page.html")
    page = ready(open_page, tmp_path / "page.html")
    assert page.inner_text("#title") == "Why? <b>$name.png"
    assert evil in page.inner_text("#list")


def test_a_page_of_the_largest_model_is_small(tmp_path: Path):
    """Six layers of eight heads and a hundred queries over a large picture: below 8 MB.

    It takes some seconds, because nothing smaller would come near the limit.
    """
    torch.manual_seed(0)
    shape = {"dim": 64, "ffn_dim": 8, "encoder_layers": 6, "decoder_layers": 6, "num_queries": 100}
    model = build(
        ModelCard("detr_r18_tiny", shape, Categories((1,), ("a",)), Preprocessing(800, 1333))
    )
    noise = torch.randint(0, 256, (800, 1333, 3), dtype=torch.uint8)
    explain(model, Image.fromarray(noise.numpy())).save(tmp_path / "page.html")
    assert (tmp_path / "page.html").stat().st_size < LIMIT_BYTES


def test_a_model_of_very_many_queries_shows_the_best():
    """More than 300 queries would make the page too big: the best of them are on it."""
    torch.manual_seed(0)
    shape = {"dim": 32, "heads": 2, "ffn_dim": 8, "num_queries": 310, "decoder_layers": 1}
    names, seen = Categories((1,), ("a",)), Preprocessing(64, 96)
    explanation = explain(build(ModelCard("detr_r18_tiny", shape, names, seen)), picture())
    facts = page_facts(explanation)
    assert (len(facts["slots"]), facts["ofQueries"]) == (300, 310)
    assert facts["found"][0]["query"] == int(explanation.queries[0])
    assert len(facts["answers"][0]["boxes"]) == len(facts["found"]) == 300


def test_what_cannot_be_explained_is_an_error(tmp_path: Path):
    """A picture that is none, a file that is not there, a threshold beyond 1, a folder as page."""
    (tmp_path / "text.jpg").write_text("no picture")
    with pytest.raises(DataError, match=r"text\.jpg: cannot be read"):
        explain(seeing(), tmp_path / "text.jpg")
    with pytest.raises(DataError, match=r"none\.jpg: no such image"):
        explain(seeing(), tmp_path / "none.jpg")
    with pytest.raises(ConfigError, match=r"threshold = 1\.5"):
        explain(seeing(), picture(), threshold=1.5)
    with pytest.raises(ConfigError, match="a folder"):
        explain(seeing(), picture()).save(tmp_path)


@pytest.mark.parametrize("size", [(3, 2000), (2000, 3)])
def test_a_picture_of_any_shape_fits_a_page(
    open_page: OpenPage, tmp_path: Path, size: tuple[int, int]
):
    """A strip three pixels wide does not make a page of eighty thousand."""
    explain(seeing(), picture().resize(size)).save(tmp_path / "why.html")
    page = ready(open_page, tmp_path / "why.html")
    assert page.evaluate("document.documentElement.scrollHeight") < 4000
