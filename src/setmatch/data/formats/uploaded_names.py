"""Names of files as Label Studio changes them when they are uploaded: abcd1234-my_photo.jpg.

Eight hexadecimal digits come before the name, blanks become "_", and other signs are dropped. A
date before a name is not such a prefix.
"""

import re

_DATE = "(?:19|20)[0-9]{2}(?:0[1-9]|1[0-2])(?:0[1-9]|[12][0-9]|3[01])"
_PREFIX = re.compile(f"(?!{_DATE}-)[0-9a-f]{{8}}-(?=.)")
_DROPPED = re.compile(r"[^-\w.]")


def is_uploaded(stem: str) -> bool:
    """Return whether a name begins as that of an upload."""
    return _PREFIX.match(stem) is not None


def uploaded_name(stem: str) -> str:
    """Return what is left of a name after an upload, without the digits that come before it."""
    return _DROPPED.sub("", _PREFIX.sub("", stem, count=1).strip().replace(" ", "_"))
