"""Open pages in headless Chromium; errors and network requests of a page fail the test."""

import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

CHROMIUM = shutil.which("chromium") or "/usr/bin/chromium"
FLAGS = ("--no-sandbox", "--disable-background-networking", "--use-fake-device-for-media-stream")
NO_GPU = ("--disable-gpu",)

OpenPage = Callable[..., Any]  # (path, width=1280, height=900, touch=False) -> playwright's Page


@contextmanager
def chromium() -> Iterator[Any]:
    """Start Debian's Chromium; skip the test where it or playwright is missing."""
    playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    if not Path(CHROMIUM).is_file():
        pytest.skip("Chromium is not installed; Debian's package is called chromium")
    with playwright.sync_playwright() as driver, launched(driver.chromium) as browser:
        yield browser


def launched(browser_type: Any, gpu: tuple[str, ...] = NO_GPU) -> Any:
    """Return a browser of a type of playwright, a context manager; `gpu` are flags for graphics.

    Playwright runs once in a thread, so a second browser is launched by the first one's type.
    """
    return browser_type.launch(executable_path=CHROMIUM, args=[*FLAGS, *gpu], timeout=120_000)


@contextmanager
def opened_pages(browser: Any) -> Iterator[OpenPage]:
    """Yield a function that opens HTML files; at the end, fail if a page misbehaved.

    A page misbehaves when it raises an uncaught error, logs an error, or requests another file.
    """
    problems: list[str] = []
    contexts: list[Any] = []

    def open_page(path: Path, width: int = 1280, height: int = 900, touch: bool = False) -> Any:
        context = browser.new_context(
            viewport={"width": width, "height": height}, has_touch=touch, offline=True
        )
        contexts.append(context)
        page, address = context.new_page(), path.resolve().as_uri()

        def on_console(message: Any) -> None:
            if message.type == "error":
                problems.append(f"logged {message.text}")

        def on_request(request: Any) -> None:
            if not request.url.startswith((address, "data:", "blob:")):
                problems.append(f"requested {request.url}")

        page.on("pageerror", lambda error: problems.append(f"raised {error}"))
        page.on("console", on_console)
        page.on("request", on_request)
        page.set_default_timeout(60_000)  # for busy machines
        page.goto(address)
        return page

    yield open_page
    for context in contexts:
        context.close()
    assert not problems, f"the page {problems}"
