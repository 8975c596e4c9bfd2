"""What is known of a release before its image is read (releases.toml): defaults, nothing more.

The image itself has the last word: its labels name the ubuntu, its Python decides on numpy.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from types import MappingProxyType
from typing import Any

from packaging.version import Version

from assembler import resources
from assembler.errors import SelectionError, UsageError
from assembler.view import View

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

DEFAULT = "24.05"
REPOSITORY = "nvcr.io/nvidia/tritonserver"
OS_RELEASE = "{etc,usr/lib}/os-release"  # the first is a link to the second


@dataclass(frozen=True)
class Release:
    """A row of releases.toml. size: MB that onnxruntime and python add to the base, about."""

    name: str
    triton: str
    ubuntu: str
    python: str
    onnxruntime: str
    size: int

    @property
    def numpy(self) -> str:
        """The numpy that is pinned by default."""
        return default_numpy(_python(self.python))

    @property
    def takes_numpy_2(self) -> bool:
        """Whether `--numpy 2.x` is allowed."""
        return takes_numpy_2(self.name)


@cache
def _data() -> dict[str, Any]:
    return tomllib.loads(resources.path("releases.toml").read_text("utf-8"))


@cache
def table() -> dict[str, Release]:
    """Return what is known, by release, the oldest first."""
    return {name: Release(name, **row) for name, row in _data()["releases"].items()}


def check(release: str) -> str:
    """Return `release` when it has the form of one (yy.mm, from 22.12); UsageError otherwise."""
    match = re.fullmatch(r"(\d\d)\.(\d\d)", release)
    if not match or not 1 <= int(match[2]) <= 12:
        raise UsageError(f"{release!r} is no release: they are named by year and month, like 24.05")
    first = next(iter(table()))
    if Version(release) < Version(first):
        raise UsageError(f"release {release} is older than {first}, the first one supported")
    return release


def default_source(release: str) -> str:
    """Return the official image's name."""
    return f"{REPOSITORY}:{release}-py3"


def default_base(release: str, labels: Mapping[str, str] = MappingProxyType({})) -> str:
    """Return the ubuntu that a release was built on; of one that is not known, what its image's
    inherited `labels` name, else that of the newest known.
    """
    known = table()
    version = labels.get("org.opencontainers.image.version", "")
    ubuntu = labels.get("org.opencontainers.image.ref.name") == "ubuntu"
    if release in known or not ubuntu or not re.fullmatch(r"\d\d\.04", version):
        version = known.get(release, list(known.values())[-1]).ubuntu
    return f"ubuntu:{version}"


def default_numpy(python: tuple[int, int]) -> str:
    """Return the numpy to pin: the last of 1.x that has wheels for that Python."""
    newest: dict[str, str] = _data()["numpy"]["newest_1"]
    fitting = (version for upto, version in newest.items() if python <= _python(upto))
    return next(fitting, list(newest.values())[-1])


def _python(text: str) -> tuple[int, int]:
    major, minor = text.split(".")
    return int(major), int(minor)


def takes_numpy_2(release: str) -> bool:
    """Tell whether the release's python backend takes numpy 2."""
    return Version(release) >= Version(_data()["numpy"]["takes_2_from"])


def check_numpy(version: str, release: str) -> None:
    """Raise SelectionError for a numpy that the release's python backend cannot take."""
    if Version(version) >= Version("2") and not takes_numpy_2(release):
        first = _data()["numpy"]["takes_2_from"]
        raise SelectionError(
            f"numpy {version} does not work with Triton {release}: its python backend takes numpy "
            f"2 from {first} on, and gives models wrong numbers before (choose --numpy 1.26.4)"
        )


def of_image(env: dict[str, str]) -> str | None:
    """Return the release that an image's environment names, or None."""
    release = env.get("NVIDIA_TRITON_SERVER_VERSION", "")
    return release if re.fullmatch(r"\d\d\.\d\d", release) else None


def remarks(release: str, full: View, base: View) -> Iterator[str]:
    """Yield a line for each thing that may matter and is no error."""
    newest = list(table())[-1]
    if Version(release) > Version(newest):
        yield (
            f"release {release} is newer than what is known here (up to {newest}); it is treated "
            "like that one, as its image looks like it"
        )
    built, below = _system(full), _system(base)
    if built and below and built != below:
        yield (
            f"{full.source.reference} was built on {built}, the base is {below}: what is taken is "
            "checked against it, but packages installed later may not fit those that were taken"
        )


def _system(view: View) -> str:
    """Return a system's name and version, like Ubuntu 22.04; "" where it does not say."""
    text = view.read_text("etc/os-release") or ""
    found = dict(re.findall(r'^(NAME|VERSION_ID)="?([^"\n]*)', text, re.MULTILINE))
    return f"{found['NAME']} {found['VERSION_ID']}" if len(found) == 2 else ""
