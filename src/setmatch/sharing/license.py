"""The license under which weights are shared: stated, carried over, or a reason to refuse."""

import re

from setmatch.errors import ConfigError, short
from setmatch.models.weights.layouts.hub_folder import LICENSES
from setmatch.models.weights.terms import KNOWN, UNKNOWN

# Licenses with a name of their own on the hub; all others are called "other" there.
HUB_LICENSES = {
    *("apache-2.0", "mit", "bsd", "bsd-2-clause", "bsd-3-clause", "isc", "zlib", "unlicense"),
    *("cc0-1.0", "cc-by-2.0", "cc-by-3.0", "cc-by-4.0", "cc-by-sa-3.0", "cc-by-sa-4.0"),
    *("cc-by-nc-2.0", "cc-by-nc-3.0", "cc-by-nc-4.0", "cc-by-nd-4.0", "cc-by-nc-nd-4.0"),
    *("cc-by-nc-sa-3.0", "cc-by-nc-sa-4.0", "odbl", "odc-by", "pddl", "openrail", "mpl-2.0"),
    *("gpl-2.0", "gpl-3.0", "lgpl-2.1", "lgpl-3.0", "agpl-3.0", "epl-2.0", "eupl-1.2", "wtfpl"),
    *("artistic-2.0", "bsl-1.0", "ms-pl", "ofl-1.1", UNKNOWN),
}


def choose_license(carried: str, stated: str | None, is_private: bool) -> str:
    """Return the license of shared weights: what the user has `stated`, or what they carry.

    Weights with terms that had to be accepted keep them, and are uploaded privately alone. Raises
    ConfigError for those, and for a license that is not a name.
    """
    terms = KNOWN.get(carried)
    if terms is not None and stated not in (None, carried):
        raise ConfigError(
            f"license {short(stated)}: these weights keep the terms {terms.name}, which you "
            f"accepted for what they were trained from: {terms.summary}"
        )
    if terms is not None and not is_private:
        raise ConfigError(
            f"these weights have the terms {terms.name} and are not published: {terms.summary}. If "
            "the terms let you store them for yourself, upload them privately (--private)"
        )
    if stated is None:
        return carried
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9.+-]{0,59}", stated):
        raise ConfigError(
            f"license {short(stated)}: give its short name, such as apache-2.0 or cc-by-4.0"
        )
    return LICENSES.get(stated.lower(), stated)


def license_metadata(license: str) -> dict[str, str]:
    """Return the entries that state a license at the head of a page of the hub."""
    name = re.sub(r"[^a-z0-9.]+", "-", license.lower()).strip("-.") or UNKNOWN
    return {"license": name} if name in HUB_LICENSES else {"license": "other", "license_name": name}
