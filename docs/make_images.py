"""Render docs/images: detections beside the page of `setmatch explain`, that page, and a report.

Needs playwright and the system's Chromium (extra `dev`). The report is of generated scenes:
python docs/make_images.py IMAGE [--model bloodcells_n]
"""

import argparse
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from PIL import Image
from playwright.sync_api import sync_playwright

import setmatch as sm

IMAGES = Path(__file__).parent / "images"
README_HEIGHT_PX, GAP_PX = 520, 16


def main() -> None:
    """Predict and explain one image, evaluate on scenes, and write what the pages show."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("image", type=Path)
    parser.add_argument("--model", default="bloodcells_n")
    options = parser.parse_args()
    model = sm.load(options.model)
    with tempfile.TemporaryDirectory() as folder:
        out, why, report = Path(folder), Path(folder, "why.html"), Path(folder, "report.html")
        explained = sm.explain(model, options.image, threshold=model.default_threshold)
        explained.save(why)
        explained.save_figures(out)
        sm.data.write_scenes(out / "scenes", 1, 200, 160, seed=3, workers=0)
        sm.evaluate(sm.load("scenes_n"), out / "scenes", report=report)
        with chromium() as browser:
            page = explain_page(browser, why)
            save(report_page(browser, report), "report_page")
        save(page, "explain_page")
        with Image.open(out / "decoder.png") as figure:
            save(figure.convert("RGB"), "explain_decoder")
    drawn = sm.predict(model, options.image).draw().convert("RGB")
    save(side_by_side(drawn, page), "readme")


def explain_page(browser: Any, path: Path) -> Image.Image:
    """Return what the page of `setmatch explain` shows at first."""
    view = browser.new_page(viewport={"width": 1120, "height": 760})
    view.goto(path.as_uri())
    view.wait_for_selector("body[data-ready]")
    return screenshot(view)


def report_page(browser: Any, path: Path) -> Image.Image:
    """Return the page of a report from the kinds of error to the second image."""
    view = browser.new_page(viewport={"width": 960, "height": 2400})
    view.goto(path.as_uri())
    top = view.get_by_role("heading", name="Error analysis").bounding_box()["y"] - 12
    second = view.locator("#gallery figure").nth(1)
    second.scroll_into_view_if_needed()
    view.evaluate("scrollTo(0, 0)")
    box = second.bounding_box()
    height = box["y"] + box["height"] + 8 - top
    return screenshot(view, clip={"x": 0, "y": top, "width": 960, "height": height})


def screenshot(view: Any, **options: Any) -> Image.Image:
    """Return what a page shows."""
    with tempfile.NamedTemporaryFile(suffix=".png") as file:
        view.wait_for_timeout(800)  # images are decoded
        view.screenshot(path=file.name, full_page=bool(options), **options)
        with Image.open(file.name) as image:
            return image.convert("RGB")


def side_by_side(*images: Image.Image) -> Image.Image:
    """Return images of one height beside each other."""
    sides = [
        image.resize(
            (round(image.width * README_HEIGHT_PX / image.height), README_HEIGHT_PX),
            Image.Resampling.LANCZOS,
        )
        for image in images
    ]
    width = sum(side.width for side in sides) + GAP_PX * (len(sides) - 1)
    canvas = Image.new("RGB", (width, README_HEIGHT_PX), "white")
    left = 0
    for side in sides:
        canvas.paste(side, (left, 0))
        left += side.width + GAP_PX
    return canvas


def save(image: Image.Image, name: str) -> None:
    """Write docs/images/NAME.jpg."""
    path = IMAGES / f"{name}.jpg"
    image.save(path, quality=84, optimize=True)
    print(path, image.size, path.stat().st_size)


@contextmanager
def chromium() -> Iterator[Any]:
    """Start the system's Chromium."""
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path="/usr/bin/chromium", args=["--no-sandbox"], timeout=120_000
        )
        yield browser
        browser.close()


if __name__ == "__main__":
    sys.exit(main())
