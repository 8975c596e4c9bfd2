"""What holds for every run: `$XDG_CONFIG_HOME/assembler/config.toml`, else in ~/.config.

    insecure = ["registry.local:5000"]       # registries that speak plain HTTP
    ca = "/etc/ssl/company.pem"              # trusted beside the usual authorities

    [mirrors]                                # where to look first, in this order
    "nvcr.io" = ["registry.local:5000/ngc", "backup.local/ngc"]
    "docker.io" = "registry.local:5000/hub"

Credentials are `docker login`'s.
"""

from __future__ import annotations

import difflib
import os
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from assembler.errors import UsageError
from assembler.registries.mirrors import Mirror

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

_KEYS = ("ca", "insecure", "mirrors")


@dataclass(frozen=True)
class Settings:
    """mirrors: texts like FROM=TO, in the order to try. insecure: hosts. ca: a file of PEM."""

    mirrors: tuple[str, ...] = ()
    insecure: tuple[str, ...] = ()
    ca: Path | None = None


def config_file(environ: Mapping[str, str] = os.environ) -> Path:
    """Return where the file is, whether it exists or not (XDG Base Directory Specification)."""
    given = Path(environ.get("XDG_CONFIG_HOME") or "")
    # A relative path there is to be ignored.
    folder = given if given.is_absolute() else Path("~/.config").expanduser()
    return folder / "assembler" / "config.toml"


def load(path: Path | None = None) -> Settings:
    """Return what the file says, nothing where there is none. UsageError names file and key."""
    path = path or config_file()
    try:
        document = tomllib.loads(path.read_bytes().decode())
    except (FileNotFoundError, NotADirectoryError):
        return Settings()
    except OSError as error:
        raise UsageError(f"{path} cannot be read: {error.strerror}") from None
    except UnicodeDecodeError:
        raise UsageError(f"{path} is not text in UTF-8") from None
    except tomllib.TOMLDecodeError as error:
        raise UsageError(f"{path} is not TOML: {error}") from None
    for key in document:
        if key not in _KEYS:
            near = difflib.get_close_matches(key, _KEYS, 1)
            hint = f"did you mean {near[0]}?" if near else f"it may have {', '.join(_KEYS)}"
            raise UsageError(f"{path}: unknown key {key!r} ({hint})")
    return Settings(
        _mirrors(path, document.get("mirrors", {})),
        _texts(path, "insecure", document.get("insecure", [])),
        _ca(path, document["ca"]) if "ca" in document else None,
    )


def _mirrors(path: Path, table: Any) -> tuple[str, ...]:
    if not isinstance(table, dict):
        raise UsageError(f'{path}: mirrors must be a table, like "nvcr.io" = ["HOST/PATH"]')
    found: list[str] = []
    for origin, targets in table.items():
        key = f"mirrors.{origin!r}"
        listed = [targets] if isinstance(targets, str) else targets
        for target in _texts(path, key, listed):
            try:
                Mirror.parse(f"{origin}={target}")
            except UsageError as error:
                raise UsageError(f"{path}: {key}: {error}") from None
            found.append(f"{origin}={target}")
    return tuple(found)


def _texts(path: Path, key: str, value: Any) -> tuple[str, ...]:
    if not isinstance(value, list) or not all(isinstance(each, str) and each for each in value):
        raise UsageError(f"{path}: {key} must be a list of texts")
    return tuple(value)


def _ca(path: Path, value: Any) -> Path:
    import ssl

    if not isinstance(value, str) or not value:
        raise UsageError(f"{path}: ca must be the path of a file")
    found = path.parent / Path(value).expanduser()
    try:
        ssl.create_default_context().load_verify_locations(found)
    except ssl.SSLError:
        raise UsageError(f"{path}: ca: {found} holds no certificate (PEM)") from None
    except OSError as error:
        raise UsageError(f"{path}: ca: {found} cannot be read: {error.strerror}") from None
    return found
