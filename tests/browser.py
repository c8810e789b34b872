"""A headless browser that holds against a page whatever a user would: errors, and network use."""

import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

CHROMIUM = shutil.which("chromium") or "/usr/bin/chromium"
QUIET = ("--no-sandbox", "--disable-gpu", "--disable-background-networking")

OpenPage = Callable[..., Any]  # (path, width=1280, height=900, touch=False) -> playwright's Page


@contextmanager
def chromium() -> Iterator[Any]:
    """Start Debian's Chromium; skip the test, with the reason, where there is none."""
    playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    if not Path(CHROMIUM).is_file():
        pytest.skip("there is no Chromium here; Debian's package is called chromium")
    with playwright.sync_playwright() as driver:
        started = driver.chromium.launch(
            executable_path=CHROMIUM, args=list(QUIET), timeout=120_000
        )
        yield started
        started.close()


@contextmanager
def opened_pages(browser: Any) -> Iterator[OpenPage]:
    """Give what opens HTML files as a user would; in the end no page may have misbehaved.

    Misbehaving is an uncaught error, an error in the console, a request for anything but the file.
    """
    complaints: list[str] = []
    contexts: list[Any] = []

    def open_page(path: Path, width: int = 1280, height: int = 900, touch: bool = False) -> Any:
        context = browser.new_context(
            viewport={"width": width, "height": height}, has_touch=touch, offline=True
        )
        contexts.append(context)
        page, address = context.new_page(), path.resolve().as_uri()

        def said(message: Any) -> None:
            if message.type == "error":
                complaints.append(f"said {message.text}")

        def asked(request: Any) -> None:
            if not request.url.startswith((address, "data:", "blob:")):
                complaints.append(f"asked for {request.url}")

        page.on("pageerror", lambda error: complaints.append(f"stumbled over {error}"))
        page.on("console", said)
        page.on("request", asked)
        page.set_default_timeout(60_000)  # for busy machines
        page.goto(address)
        return page

    yield open_page
    for context in contexts:
        context.close()
    assert not complaints, f"the page {complaints}"
