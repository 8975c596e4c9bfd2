"""Licences of packages, as far as their own metadata says, in SPDX's names where there is one.

Sources: debian.org/doc/packaging-manuals/copyright-format/1.0 (short names), spdx.org/licenses,
packaging.python.org, core metadata (License-Expression, License, Classifier).
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping

_DEBIAN = {
    "expat": "MIT",
    "mit": "MIT",
    "isc": "ISC",
    "zlib": "Zlib",
    "curl": "curl",
    "psf-2": "PSF-2.0",
    "psf": "PSF-2.0",
    "bsd-2-clause": "BSD-2-Clause",
    "bsd-3-clause": "BSD-3-Clause",
    "bsd-4-clause": "BSD-4-Clause",
    "apache-2": "Apache-2.0",
    "apache-2.0": "Apache-2.0",
    "mpl-2.0": "MPL-2.0",
    "openldap-2.8": "OLDAP-2.8",
    "bsl-1.0": "BSL-1.0",
    "cc0-1.0": "CC0-1.0",
    "0bsd": "0BSD",
}
_GNU = re.compile(r"(A?GPL|LGPL|GFDL)[-v]?(\d)(?:\.(\d))?(\+|-or-later|-only)?", re.IGNORECASE)

_BETWEEN = r",?\s+(?:and/or|and|or)\s+|,\s*"

# The trove classifiers that wheels of today's Pythons carry, by their last words.
_CLASSIFIERS = {
    "MIT License": "MIT",
    "BSD License": "BSD",
    "Apache Software License": "Apache-2.0",
    "ISC License (ISCL)": "ISC",
    "Python Software Foundation License": "PSF-2.0",
    "Mozilla Public License 2.0 (MPL 2.0)": "MPL-2.0",
}


def of_debian(copyright_text: str) -> list[str]:
    """Return the licences that a package's copyright file names, sorted; none where it is prose."""
    if "copyright-format" not in copyright_text[:400]:
        return []
    names = re.findall(r"^License:[ \t]*(\S[^\n]*?)[ \t]*$", copyright_text, re.MULTILINE)
    single = (part.strip() for name in names for part in re.split(_BETWEEN, name))
    return sorted({_spdx(name) for name in single if 0 < len(name) <= 60})


def _spdx(name: str) -> str:
    gnu = _GNU.fullmatch(name)
    if gnu:
        family, major, minor, later = gnu.groups()
        ending = "or-later" if later in ("+", "-or-later") else "only"
        return f"{family.upper()}-{major}.{minor or 0}-{ending}"
    return _DEBIAN.get(name.lower(), name)


def of_python(fields: Mapping[str, str], classifiers: Iterable[str]) -> list[str]:
    """Return the licence that a Python package's metadata names: an expression, a name or none."""
    if expression := fields.get("license-expression", "").strip():
        return [expression]
    known = [
        _CLASSIFIERS[last]
        for each in classifiers
        if (last := each.split(" :: ")[-1]) in _CLASSIFIERS
    ]
    text = fields.get("license", "").strip()
    # Some put the whole text of their licence there.
    if text and len(text) <= 60 and "\n" not in text:
        return [_spdx(text)]
    return sorted(set(known))
