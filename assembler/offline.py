"""`--offline`: what is at hand without any network, and all at once what is not."""

from __future__ import annotations

import ast
import os
import re
import subprocess
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from urllib.parse import unquote, urlsplit

from assembler import releases
from assembler.caching.cache import Cache
from assembler.errors import AssemblerError, OfflineError, listing
from assembler.oci import Platform
from assembler.reference import Reference
from assembler.sources.opening import Access

_HEADLINE = "--offline, and not at hand"
_FORMS = "docker-daemon:NAME, docker-archive:FILE, oci:DIR"


def check(
    access: Access,
    platform: Platform,
    images: Sequence[tuple[str, Reference]],
    wheels: Iterable[tuple[str, str | None]],
    cache: Cache,
) -> None:
    """Raise OfflineError that lists what is missing. images: the option of each, and its name.

    wheels: names, with a version where one is asked for; looked for where an image is missing, as
    a result that the cache has whole needs none.
    """
    missing: list[str] = []
    for option, reference in images:
        if not reference.is_remote:
            if reference.path and not Path(reference.path).exists():
                missing.append(f"{reference}: there is no such file")
            elif reference.transport == "docker-daemon":
                missing += _not_in_engine(access, reference, platform)
            continue
        try:
            with access.open(reference, platform):
                pass
        except OfflineError:
            missing.append(f"{reference}: name a local one with {option} ({_FORMS})")
    if missing:
        missing += [
            f"{name} {version or 'for its Python'}: put the wheel into a folder that pip's "
            "find-links names"
            for name, version in wheels
            if not _has_wheel(name, version, cache)
        ]
        raise OfflineError(listing(_HEADLINE, missing))


def _not_in_engine(access: Access, reference: Reference, platform: Platform) -> list[str]:
    try:
        with access.open(reference, platform):
            return []
    except AssemblerError as error:
        return [str(error)]


def pip_settings() -> tuple[list[str], dict[str, str]]:
    """Return words and environment that let pip look into local folders alone.

    Those are what its own settings name as find-links; its other settings, which may name hosts,
    are left out.
    """
    environment = {k: v for k, v in os.environ.items() if not k.upper().startswith("PIP_")}
    words = [word for link in _links() for word in ("--find-links", link)]
    return ["--no-index", *words], environment | {"PIP_CONFIG_FILE": os.devnull}


def _links() -> list[str]:
    done = subprocess.run(
        [sys.executable, "-m", "pip", "config", "list", "--disable-pip-version-check"],
        capture_output=True, text=True, check=False, stdin=subprocess.DEVNULL,
    )  # fmt: skip
    found: list[str] = []
    for value in re.findall(r"(?m)^\S+\.find-links=(.+)$", done.stdout):
        try:
            found += str(ast.literal_eval(value)).split()
        except (ValueError, SyntaxError):
            continue
    local = [each for each in found if urlsplit(each).scheme in ("", "file")]
    return list(dict.fromkeys(local))


def _has_wheel(name: str, version: str | None, cache: Cache) -> bool:
    versions = [version] if version else [releases.default_numpy((3, n)) for n in (8, 12)]
    folders = [Path(unquote(urlsplit(link).path)).expanduser() for link in _links()]
    return any(
        cache.find(f"wheels/{name}-{each}-*.whl")
        or any(folder.is_dir() and any(folder.glob(f"{name}-{each}-*.whl")) for folder in folders)
        for each in versions
    )
