"""Render docs/images/readme.jpg: detections beside the page of `setmatch explain`.

Needs playwright and the system's Chromium (extra `dev`):
python docs/make_readme_image.py IMAGE [--model bloodcells_n]
"""

import argparse
import sys
import tempfile
from pathlib import Path

from PIL import Image
from playwright.sync_api import sync_playwright

import setmatch as sm

OUT = Path(__file__).parent / "images" / "readme.jpg"
HEIGHT_PX = 520


def main() -> None:
    """Predict and explain one image, and write both side by side."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("image", type=Path)
    parser.add_argument("--model", default="bloodcells_n")
    options = parser.parse_args()
    model = sm.load(options.model)
    threshold = model.card.default_threshold if hasattr(model.card, "default_threshold") else 0.5
    drawn = sm.predict(model, options.image, threshold=threshold).draw()
    with tempfile.TemporaryDirectory() as folder:
        page, shot = Path(folder, "why.html"), Path(folder, "why.png")
        sm.explain(model, options.image, threshold=threshold).save(page)
        screenshot(page, shot)
        explained = Image.open(shot).convert("RGB")
        sides = [
            side.resize((round(side.width * HEIGHT_PX / side.height), HEIGHT_PX), Image.LANCZOS)
            for side in (drawn.convert("RGB"), explained)
        ]
    canvas = Image.new("RGB", (sides[0].width + 16 + sides[1].width, HEIGHT_PX), "white")
    canvas.paste(sides[0], (0, 0))
    canvas.paste(sides[1], (sides[0].width + 16, 0))
    canvas.save(OUT, quality=82, optimize=True)
    print(OUT, canvas.size, OUT.stat().st_size)


def screenshot(page: Path, shot: Path) -> None:
    """Open a page in the system's Chromium and write what it shows."""
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path="/usr/bin/chromium", args=["--no-sandbox"]
        )
        view = browser.new_page(viewport={"width": 1120, "height": 760})
        view.goto(page.as_uri())
        view.wait_for_timeout(1500)
        view.screenshot(path=shot)
        browser.close()


if __name__ == "__main__":
    sys.exit(main())
