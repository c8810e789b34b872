"""The license of weights, which is shown once; terms that must be accepted before they load."""

import hashlib
import logging
import re
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from setmatch.errors import WeightsError, short, suggest
from setmatch.files.writing import cache_folder

log = logging.getLogger("setmatch")
UNKNOWN = "unknown"


@dataclass(frozen=True)
class Terms:
    """What a user has to accept, by its `name`, and why, in one sentence."""

    name: str
    summary: str


OBJECTS365 = Terms(
    "objects365",
    "they were trained on Objects365, whose owners offer it for academic use; D-FINE's authors do "
    "not release such weights under Apache-2.0 (github.com/Peterande/D-FINE/issues/357), "
    "RT-DETR's have not answered (github.com/lyuwenyu/RT-DETR/issues/685), and LW-DETR's publish "
    "them under Apache-2.0 without a word on that data set (huggingface.co/xbsu/LW-DETR)",
)
ROBOFLOW_PML = Terms(
    "roboflow-pml-1.0",
    "RF-DETR XL and 2XL are released under Roboflow's license PML 1.0 instead of Apache-2.0, and "
    "their authors ask for an account (github.com/roboflow/rf-detr)",
)
KNOWN = {each.name: each for each in (OBJECTS365, ROBOFLOW_PML)}
_ACCEPTED: set[str] = set()  # by this process, for all weights that it loads


def accept_terms(name: str) -> None:
    """Accept terms for all weights that this process loads; raises WeightsError if unknown."""
    if name not in KNOWN:
        raise WeightsError(f"no weights have a license called {name}; {suggest(name, KNOWN)}")
    _ACCEPTED.add(name)


@contextmanager
def accepting(name: str | None) -> Iterator[None]:
    """Accept terms, if any are named, for the time of a block; raises WeightsError if unknown."""
    if name is None or name in _ACCEPTED:
        yield
        return
    accept_terms(name)
    try:
        yield
    finally:
        _ACCEPTED.discard(name)


def require_accepted(terms: Terms | None, source: str, accepted: str | None) -> None:
    """Raise WeightsError, with what the terms are, unless there are none or they are accepted."""
    if terms is None or terms.name in {accepted, *_ACCEPTED}:
        return
    raise WeightsError(
        f"{source}: these weights are not loaded before you accept their terms: {terms.summary}. "
        f'If you may use them, give accept_license="{terms.name}" (Python) or --accept-license '
        f"{terms.name} (command line)"
    )


def terms_of_names(names: Iterable[str], num_classes: int) -> Terms | None:
    """Return the terms of weights by the names of their file or repository, and their classes."""
    says_so = any(re.search(r"o(?:bj(?:ects?)?)?365|obj2coco", name.lower()) for name in names)
    return OBJECTS365 if says_so or num_classes in (365, 366) else None


def show_license_once(source: str, license: str) -> None:
    """Log the license of the weights `source` the first time that they are loaded here.

    A file in the cache remembers it; of several processes, only the first logs it.
    """
    terms, name = KNOWN.get(license), short(license).strip("'\"")
    if license == UNKNOWN:
        says = "their license is unknown; ask those who published them before you use them"
    else:
        says = f"their license is {name}{f': {terms.summary}' if terms else ''}"
    shown = hashlib.sha256(f"{source}\n{license}".encode(errors="surrogatepass")).hexdigest()[:32]
    try:
        folder = cache_folder() / "licenses"
        folder.mkdir(parents=True, exist_ok=True)
        (folder / shown).touch(exist_ok=False)
    except FileExistsError:
        return
    except OSError:
        pass  # nothing can be remembered: it is shown each time
    log.warning("%s: %s", source, says)
