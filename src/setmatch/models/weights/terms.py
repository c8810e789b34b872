"""Terms of weights that are not free for every use: they load once the terms are accepted."""

import re
from dataclasses import dataclass

from setmatch.errors import WeightsError, suggest


@dataclass(frozen=True)
class Terms:
    """What a user has to accept, by its `name`, and why, in one sentence."""

    name: str
    summary: str


OBJECTS365 = Terms(
    "objects365",
    "they were trained on Objects365, whose owners offer it for academic use, and D-FINE's authors "
    "do not release them under Apache-2.0 (github.com/Peterande/D-FINE/issues/357)",
)
KNOWN = {OBJECTS365.name: OBJECTS365}
_ACCEPTED: set[str] = set()  # by this process, for all weights that it loads


def accept_terms(name: str) -> None:
    """Accept terms for all weights that this process loads; raises WeightsError if unknown."""
    if name not in KNOWN:
        raise WeightsError(f"no weights have a license called {name}; {suggest(name, KNOWN)}")
    _ACCEPTED.add(name)


def require_accepted(terms: Terms | None, source: str, accepted: str | None) -> None:
    """Raise WeightsError, with what the terms are, unless there are none or they are accepted."""
    if terms is None or terms.name in {accepted, *_ACCEPTED}:
        return
    raise WeightsError(
        f"{source}: these weights are not loaded before you accept their terms: {terms.summary}. "
        f'If you may use them, give accept_license="{terms.name}" (Python) or --accept-license '
        f"{terms.name} (command line)"
    )


def terms_of_name(name: str, num_classes: int) -> Terms | None:
    """Return the terms of weights by the name of their file or repository, and their classes."""
    says_so = re.search(r"o(?:bj(?:ects?)?)?365|obj2coco", name.lower())
    return OBJECTS365 if says_so or num_classes in (365, 366) else None
