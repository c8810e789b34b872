"""Open pages in headless Chromium; errors and network requests of a page fail the test."""

import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from weakref import WeakKeyDictionary

import pytest

CHROMIUM = shutil.which("chromium") or "/usr/bin/chromium"
FLAGS = ("--no-sandbox", "--disable-background-networking", "--use-fake-device-for-media-stream")
NO_GPU = ("--disable-gpu",)

OpenPage = Callable[..., Any]  # (path, width=1280, height=900, touch=False, own=False) -> a Page

_UNUSED: WeakKeyDictionary[Any, list[Any]] = WeakKeyDictionary()  # pages of browsers


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
    Pages are used again, for a new one costs more than most tests; one for touch, or for a test
    that changes the browser under it (its `own`), is closed.
    """
    problems: list[str] = []
    listening: list[tuple[Any, dict[str, Callable[[Any], None]]]] = []
    unused = _UNUSED.setdefault(browser, [])
    closed: list[Any] = []

    def open_page(
        path: Path, width: int = 1280, height: int = 900, touch: bool = False, own: bool = False
    ) -> Any:
        if unused and not touch and not own:
            page = unused.pop()
        else:
            context = browser.new_context(has_touch=touch, offline=True)
            page = context.new_page()
            page.set_default_timeout(60_000)  # for busy machines
            if touch or own:
                closed.append(context)
        page.set_viewport_size({"width": width, "height": height})
        address = path.resolve().as_uri()

        def on_console(message: Any) -> None:
            if message.type == "error":
                problems.append(f"logged {message.text}")

        def on_request(request: Any) -> None:
            if not request.url.startswith((address, "data:", "blob:")):
                problems.append(f"requested {request.url}")

        listeners = {
            "pageerror": lambda error: problems.append(f"raised {error}"),
            "console": on_console,
            "request": on_request,
        }
        for event, listener in listeners.items():
            page.on(event, listener)
        listening.append((page, listeners))
        page.goto(address)
        return page

    yield open_page
    for page, listeners in listening:
        for event, listener in listeners.items():
            page.remove_listener(event, listener)
        if page.context in closed:
            page.context.close()
        else:
            page.mouse.move(0, 0)
            page.evaluate("localStorage.clear()")
            page.goto("about:blank")
            unused.append(page)
    assert not problems, f"the page {problems}"
