"""The lock: every input of a run as readable text, so that another run uses these and no other.

It is TOML, written here in one fixed form. What it pins: both images by digest, the wheel by its
hash, stage files, patches and Dockerfile by theirs, the time, and the versions of what shapes
bytes. Its first value is a checksum of the rest: a lock that was edited pins nothing.
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields, replace
from pathlib import Path
from typing import Any

from assembler import __version__, oci
from assembler.errors import AssemblerError, UsageError
from assembler.oci import Platform
from assembler.reference import FILE_TRANSPORTS
from assembler.wheels import Pin

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

FORMAT = 1
_HEAD = """\
# Every input of one image. `assembler extract --locked FILE` makes it again out of these and of
# nothing else; `assembler lock --upgrade FILE` renews this file. It is not to be edited.
"""


class LockError(AssemblerError):
    """A lock is malformed, was edited, or does not fit what is there."""


@dataclass(frozen=True)
class Pinned:
    """An image. name: as it was asked for. digest: of its manifest, "" where the source has none
    (the Engine, `docker save`). config: the digest of its config, which names all layers.
    """

    name: str
    config: str
    digest: str = ""

    @property
    def address(self) -> str:
        """How to read this very image: by digest where it is in a registry, else as it was."""
        remote = self.name.partition(":")[0] not in ("docker-daemon", *FILE_TRANSPORTS)
        return (
            f"{self.name.partition('@')[0]}@{self.digest}" if remote and self.digest else self.name
        )


@dataclass(frozen=True)
class Lock:
    """All inputs. mtime: of every file. numpy: the version that was asked for, "" for the default.

    files: sha256 of stage files, patches and the Dockerfile. formats: what shapes bytes.
    """

    release: str
    platform: str
    backends: tuple[str, ...]
    keep: tuple[str, ...]
    builder: str
    numpy: str
    mtime: int
    assembler: str
    source: Pinned
    base: Pinned
    wheels: Mapping[str, Pin] = field(default_factory=dict)
    files: Mapping[str, str] = field(default_factory=dict)
    formats: Mapping[str, str] = field(default_factory=dict)

    def document(self) -> dict[str, Any]:
        """Return the lock as a JSON document."""
        return {"format": FORMAT, **json.loads(json.dumps(asdict(self)))}


def formats() -> dict[str, str]:
    """Return the versions of what shapes the bytes of layers."""
    from assembler.layerfile import FORM

    return {"gzip": FORM, "tar": "pax"}


# -- text ----------------------------------------------------------------------------------


def render(lock: Lock) -> str:
    """Return the text of a lock file: the same for the same inputs."""
    document = lock.document()
    lines = [_HEAD + f'checksum = "{oci.sha256(oci.canonical(document))}"']
    tables = {key: value for key, value in document.items() if isinstance(value, dict)}
    lines += [_pair(key, value) for key, value in document.items() if key not in tables]
    for name, table in sorted(tables.items()):
        inner = {key: value for key, value in table.items() if isinstance(value, dict)}
        if len(inner) < len(table) or not table:
            lines += ["", f"[{name}]"]
            lines += [_pair(key, value) for key, value in sorted(table.items())]
        for key, values in sorted(inner.items()):
            lines += ["", f"[{name}.{_key(key)}]"]
            lines += [_pair(*pair) for pair in sorted(values.items())]
    return "\n".join(lines) + "\n"


def _pair(key: str, value: Any) -> str:
    return f"{_key(key)} = {json.dumps(value, ensure_ascii=False)}"


def _key(key: str) -> str:
    return key if re.fullmatch(r"[A-Za-z0-9_-]+", key) else json.dumps(key, ensure_ascii=False)


def read(path: Path, *, edited: bool = False) -> Lock:
    """Return the lock in a file; LockError in one line for what is none.

    edited: take one that was edited by hand, to renew it.
    """
    try:
        table = tomllib.loads(path.read_text("utf-8"))
    except OSError as error:
        raise UsageError(f"the lock {path} cannot be read: {error.strerror}") from None
    except ValueError as error:
        raise LockError(f"{path} is no lock: {str(error).splitlines()[0]}") from None
    checksum = table.pop("checksum", None)
    if table.pop("format", None) != FORMAT or checksum is None:
        raise LockError(
            f"{path} is no lock of format {FORMAT}, which assembler {__version__} reads: write one "
            "with assembler lock RELEASE -o FILE"
        )
    try:
        lock = _lock(table)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise LockError(
            f"{path} is malformed at {error}: write a new one with assembler lock"
        ) from None
    if not edited and checksum != oci.sha256(oci.canonical(lock.document())):
        raise LockError(
            f"{path} was edited: its checksum does not fit. Renew it with assembler lock "
            f"--upgrade {path}"
        )
    return lock


def parse(document: Mapping[str, Any]) -> Lock:
    """Return the lock of which `Lock.document` made a document."""
    table = json.loads(json.dumps(document))
    table.pop("format", None)
    return _lock(table)


def _lock(table: dict[str, Any]) -> Lock:
    wheels = {key: _built(Pin, each, f"wheels.{key}") for key, each in table.pop("wheels").items()}
    images = {key: _built(Pinned, table.pop(key), key) for key in ("source", "base")}
    lists = {key: tuple(map(_text, table.pop(key))) for key in ("backends", "keep")}
    maps = {
        key: {name: _text(value) for name, value in table.pop(key).items()}
        for key in ("files", "formats")
    }
    mtime = table.pop("mtime")
    if not isinstance(mtime, int) or isinstance(mtime, bool):
        raise ValueError("mtime")
    Platform.parse(str(table.get("platform")))
    lock: Lock = _built(Lock, table, "", wheels=wheels, mtime=mtime, **images, **lists, **maps)
    if not all(map(oci.is_digest, (lock.source.config, lock.base.config))):
        raise ValueError("a config's digest")
    return lock


def _built(kind: type, table: dict[str, Any], where: str, **given: Any) -> Any:
    names = {each.name for each in fields(kind)} - set(given)
    if set(table) != names or not all(isinstance(value, str) for value in table.values()):
        odd = set(table) ^ names or {k for k, v in table.items() if not isinstance(v, str)}
        raise ValueError(f"{where}.{sorted(odd)[0]}".lstrip("."))
    return kind(**table, **given)


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise ValueError(f"{value!r}, which is no text")
    return value


# -- what differs -----------------------------------------------------------------------------


def differences(locked: Lock, now: Lock) -> list[str]:
    """Return, in words, all that is not as the lock has it; wheels are left out."""
    found = []
    for key in ("release", "platform", "backends", "keep", "builder", "mtime", "assembler"):
        old, new = getattr(locked, key), getattr(now, key)
        if old != new:
            found.append(f"{key} is {_shown(new)}, the lock has {_shown(old)}")
    wanted = locked.wheels["numpy"].version if "numpy" in locked.wheels else ""
    if now.numpy and now.numpy != wanted:
        found.append(f"numpy is {now.numpy}, the lock has {wanted or 'none'}")
    for key in ("source", "base"):
        old_image, new_image = getattr(locked, key), getattr(now, key)
        for part in ("config", "digest"):
            was, is_ = getattr(old_image, part), getattr(new_image, part)
            if was and is_ and was != is_:
                found.append(f"{key} {new_image.name} has {part} {is_}, the lock has {was}")
    for what in ("files", "formats"):
        before, after = getattr(locked, what), getattr(now, what)
        for name in sorted({*before, *after}):
            if before.get(name) != after.get(name):
                found.append(_difference(name, before.get(name), after.get(name)))
    return found


def check(locked: Lock, now: Lock) -> Lock:
    """Return what a run by this lock uses: the lock. LockError that lists all differences."""
    found = differences(locked, now)
    if found:
        raise LockError("\n  ".join(["the lock does not fit:", *found]))
    return replace(locked, wheels={})


def changes(old: Lock, new: Lock) -> list[str]:
    """Return, in words, what a renewed lock has otherwise; wheels included."""
    found = differences(replace(old, wheels=new.wheels), new)
    for name in sorted({*old.wheels, *new.wheels}):
        before, after = old.wheels.get(name), new.wheels.get(name)
        if before != after:
            found.append(
                _difference(name, before.file if before else None, after.file if after else None)
            )
    return [
        line.replace("the lock has", "it was").replace("not in the lock", "new") for line in found
    ]


def _difference(name: str, before: str | None, after: str | None) -> str:
    if before is None:
        return f"{name} is not in the lock"
    return f"{name} is {_shown(after) if after else 'not used'}, the lock has {_shown(before)}"


def _shown(value: Any) -> str:
    if isinstance(value, tuple):
        return ", ".join(value) or "none"
    return f"sha256 {value[:12]}…" if re.fullmatch("[0-9a-f]{64}", str(value)) else str(value)
