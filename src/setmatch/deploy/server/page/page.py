"""The page of a server: drop an image, see its boxes. It loads nothing from anywhere else."""

import secrets
from dataclasses import dataclass

from setmatch.deploy.server.responses import ModelFacts
from setmatch.html.page import render
from setmatch.ops.colors import css_color_of

LEAST_SCORE = 0.05  # that the slider of the page can show
_MOST_NAMED = 6  # classes in the first sentence


@dataclass(frozen=True)
class Page:
    """A page, and the HTTP headers that keep it from loading anything from elsewhere."""

    html: str
    headers: dict[str, str]


def page_of(facts: ModelFacts, needs_token: bool) -> Page:
    """Return the page for a model."""
    nonce = secrets.token_urlsafe(16)
    html = render(
        "deploy/server/page/page.html",
        model=facts,
        subject=_subject(facts),
        needs_token=needs_token,
        least_percent=round(100 * LEAST_SCORE),
        facts=_facts(facts),
        nonce=nonce,
    )
    policy = (
        f"default-src 'none'; script-src 'nonce-{nonce}'; style-src 'unsafe-inline'; "
        "img-src data: blob:; connect-src 'self'; base-uri 'none'; form-action 'none'; "
        "frame-ancestors 'none'"
    )
    return Page(
        html,
        {
            "Content-Security-Policy": policy,
            "X-Content-Type-Options": "nosniff",
            "Referrer-Policy": "no-referrer",
            "Cache-Control": "no-store",
        },
    )


def _facts(facts: ModelFacts) -> dict[str, object]:
    """Return what the scripts of the page need."""
    return {
        "classes": [
            {"name": each.name, "categoryId": each.category_id, "color": css_color_of(index)}
            for index, each in enumerate(facts.classes)
        ],
        "threshold": max(facts.threshold, LEAST_SCORE),
        "leastScore": LEAST_SCORE,
    }


def _subject(facts: ModelFacts) -> str:
    """Return what the model finds: the names of its classes, or how many there are."""
    names = [each.name for each in facts.classes]
    if len(names) > _MOST_NAMED:
        return f"objects of {len(names)} classes"
    *first, last = names
    return f"{', '.join(first)} and {last}" if first else last
