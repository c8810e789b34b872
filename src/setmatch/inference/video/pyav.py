"""The library that reads and writes videos; nothing else imports it."""

from typing import Any

from setmatch.errors import ExtraMissingError


def pyav() -> Any:
    """Return the module `av`; raises ExtraMissingError without it."""
    try:
        import av
    except ImportError:
        raise ExtraMissingError(
            "videos are read by PyAV, which is not installed; install it with: "
            "pip install 'setmatch[video]'"
        ) from None
    return av
