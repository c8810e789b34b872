"""The encoding of an XML file: as it declares, or UTF-8.

expat itself knows no multi-byte encoding but UTF-8 and UTF-16, so that Python decodes all.
"""

import codecs
import re

_DECLARED = re.compile(rb"""\s*<\?xml\s[^>]*?\bencoding\s*=\s*["']([\w.:-]{1,99})["']""")
_BLANKS = "\ufeff \t\r\n"
# The longer marks first: that of UTF-32 begins with that of UTF-16.
_MARKS = {
    codecs.BOM_UTF8: "utf-8-sig",
    codecs.BOM_UTF32_LE: "utf-32",
    codecs.BOM_UTF32_BE: "utf-32",
    codecs.BOM_UTF16_LE: "utf-16",
    codecs.BOM_UTF16_BE: "utf-16",
}
_UNMARKED = {
    b"<\0\0\0": "utf-32-le",
    b"\0\0\0<": "utf-32-be",
    b"<\0": "utf-16-le",
    b"\0<": "utf-16-be",
}


def to_utf8(content: bytes) -> bytes:
    """Return the content of an XML file in UTF-8, whatever its declaration says now.

    A mark at the beginning, and zero bytes as only UTF-16 and UTF-32 have them, count more than
    what is declared. Blanks before the declaration, which XML forbids, are left out. Raises
    ValueError that names the encoding if it is unknown, or does not fit.
    """
    encoding = _encoding(content)
    try:
        return content.decode(encoding).lstrip(_BLANKS).encode()
    except LookupError:
        raise ValueError(f"its encoding {encoding!r} is unknown; save it in UTF-8") from None
    except UnicodeError:
        if encoding == "utf-8":
            problem = "it is not in UTF-8, and declares no other encoding; save it in UTF-8"
        else:
            problem = f"it is not in the encoding {encoding!r}; correct that, or save it in UTF-8"
        raise ValueError(problem) from None


def _encoding(content: bytes) -> str:
    for begins in (_MARKS, _UNMARKED):
        for mark, encoding in begins.items():
            if content.startswith(mark):
                return encoding
    declared = _DECLARED.match(content)
    name = declared[1].decode("ascii", errors="replace").lower() if declared else "utf-8"
    # The declaration was read byte by byte, so that it cannot be in UTF-16: some programs always
    # declare it.
    return "utf-8" if re.match("utf-?(16|32|8$)|ucs", name) else name
