"""What is known of a release before its image is read: defaults, nothing more.

Sources: upstream's build.py of each branch (base image), python_backend CMakeLists.txt (pybind11
2.12 from 24.11, which is what lets the stub take numpy 2).
"""

from __future__ import annotations

import re

from packaging.version import Version

from assembler.errors import SelectionError, UsageError

DEFAULT = "24.05"
REPOSITORY = "nvcr.io/nvidia/tritonserver"
_FIRST_WITH_NUMPY_2 = Version("24.11")


def check(release: str) -> str:
    """Return `release` when it has the form of one (yy.mm, from 22.12); UsageError otherwise."""
    match = re.fullmatch(r"(\d\d)\.(\d\d)", release)
    if not match or not 1 <= int(match[2]) <= 12:
        raise UsageError(f"{release!r} is no release: they are named by year and month, like 24.05")
    if Version(release) < Version("22.12"):
        raise UsageError(f"release {release} is older than 22.12, the first one supported")
    return release


def default_source(release: str) -> str:
    """Return the official image's name."""
    return f"{REPOSITORY}:{release}-py3"


def default_base(release: str) -> str:
    """Return the ubuntu that a release was built on."""
    if Version(release) < Version("23.05"):
        return "ubuntu:20.04"
    return "ubuntu:22.04" if Version(release) < _FIRST_WITH_NUMPY_2 else "ubuntu:24.04"


def default_numpy(python: tuple[int, int]) -> str:
    """Return the numpy to pin: the last of 1.x that has wheels for that Python."""
    return "1.24.4" if python < (3, 9) else "1.26.4"


def check_numpy(version: str, release: str) -> None:
    """Raise SelectionError for a numpy that the release's python backend cannot take."""
    if Version(version) >= Version("2") and Version(release) < _FIRST_WITH_NUMPY_2:
        raise SelectionError(
            f"numpy {version} does not work with Triton {release}: its python backend takes numpy "
            "2 from 24.11 on, and gives models wrong numbers before (choose --numpy 1.26.4)"
        )


def of_image(env: dict[str, str]) -> str | None:
    """Return the release that an image's environment names, or None."""
    release = env.get("NVIDIA_TRITON_SERVER_VERSION", "")
    return release if re.fullmatch(r"\d\d\.\d\d", release) else None
