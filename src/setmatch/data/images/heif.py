"""HEIC images of phones, where the user has installed a library that decodes them.

It is no dependency: such libraries bundle decoders under the LGPL (pi-heif) or the GPL
(pillow-heif).
"""

from functools import cache

HEIF_SUFFIXES = (".heic", ".heif", ".hif", ".heics", ".heifs")


@cache
def register_heif() -> bool:
    """Let Pillow open HEIC images; return whether pi-heif or pillow-heif is there to do so."""
    try:
        from pi_heif import register_heif_opener
    except ImportError:
        try:
            from pillow_heif import register_heif_opener
        except ImportError:
            return False
    register_heif_opener()
    return True
