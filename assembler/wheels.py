"""A Python wheel for the new image, fetched by pip for the target.

pip runs on this machine, so that the user's own index, proxy, certificates and credentials
apply; nothing is run in the image, nothing is compiled.
"""

from __future__ import annotations

import hashlib
import os
import re
import subprocess
import sys
import tempfile
import threading
import time
from dataclasses import dataclass
from pathlib import Path

from packaging.tags import compatible_tags, cpython_tags
from packaging.utils import parse_wheel_filename
from packaging.version import InvalidVersion, Version

from assembler.caching.cache import Cache
from assembler.elf import Elf
from assembler.errors import SelectionError, UsageError
from assembler.layers import Layer
from assembler.offline import pip_settings
from assembler.tree import Tree

_PYTHONS = ("usr/local/bin/python3", "usr/bin/python3")  # as PATH has them
_SECONDS = 600
_LOOK = 0.2  # seconds between two looks at whether pip is still wanted


@dataclass(frozen=True)
class Pin:
    """One wheel and no other: the version, the file's name, and its sha256 in hex."""

    version: str
    file: str
    sha256: str

    @classmethod
    def of(cls, version: str, wheel: Path) -> Pin:
        """Return the pin of a wheel on disk."""
        return cls(version, wheel.name, hashlib.sha256(wheel.read_bytes()).hexdigest())


@dataclass(frozen=True)
class Target:
    """The Python of the new image. version: like 3.11. folder: where its packages are put.

    interpreter: the path of python3 (with the leading slash). glibc: (major, minor) of the base.
    machine: as in a wheel's platform tag, x86_64 or aarch64.
    """

    version: tuple[int, int]
    folder: str
    interpreter: str
    glibc: tuple[int, int]
    machine: str

    @property
    def platforms(self) -> list[str]:
        """Platform tags that fit, best first (PEP 600)."""
        major, minor = self.glibc
        lowest = 5 if self.machine == "x86_64" else 17
        tags = [f"manylinux_{major}_{n}_{self.machine}" for n in range(minor, lowest - 1, -1)]
        return [*tags, f"manylinux2014_{self.machine}", f"linux_{self.machine}"]

    def accepts(self, wheel: str) -> bool:
        """Tell whether the tags in a wheel's file name fit this Python."""
        tags = set(cpython_tags(self.version, platforms=self.platforms))
        tags |= set(compatible_tags(self.version, platforms=self.platforms))
        return not tags.isdisjoint(parse_wheel_filename(wheel)[3])


def find_target(tree: Tree, glibc: tuple[int, int], machine: str) -> Target:
    """Return the Python that the image of `tree` has. SelectionError where there is none."""
    for name in _PYTHONS:
        if found := _target(name, tree.resolve(name) or "", glibc, machine):
            return found
    raise SelectionError("the selection has no python3, so no package can be put in")


def linked_target(layer: Layer, glibc: tuple[int, int], machine: str) -> Target | None:
    """Return the Python that one layer on its own shows, by a link to it."""
    links = {member.name: member.link for member in layer.members if member.name in _PYTHONS}
    targets = (_target(name, links.get(name, ""), glibc, machine) for name in _PYTHONS)
    return next(filter(None, targets), None)


def _target(name: str, real: str, glibc: tuple[int, int], machine: str) -> Target | None:
    """Return the Python that `name`, a link to `real`, stands for; None where that is none.

    Debian's own Python, in /usr/bin, looks for what pip installs in
    /usr/local/lib/pythonX.Y/dist-packages; any other in the site-packages beside its standard
    library.
    """
    match = re.search(r"python(\d)\.(\d+)$", real)
    if not match:
        return None
    if name.startswith("usr/bin"):
        folder = f"usr/local/lib/python{match[1]}.{match[2]}/dist-packages"
    else:
        folder = f"{name.rsplit('/bin/', 1)[0]}/lib/python{match[1]}.{match[2]}/site-packages"
    return Target((int(match[1]), int(match[2])), folder, f"/{name}", glibc, machine)


def glibc(libc: Elf) -> tuple[int, int]:
    """Return the version of a C library."""
    offered = [re.fullmatch(r"GLIBC_(\d+)\.(\d+)(?:\.\d+)?", offer) for offer in libc.offers]
    return max((int(m[1]), int(m[2])) for m in offered if m)


def check_version(text: str) -> str:
    """Return a version as wheels of numpy have it in their names (1.26 is 1.26.0).

    Raises UsageError where it is none.
    """
    try:
        version = Version(text)
    except InvalidVersion:
        raise UsageError(f"--numpy {text!r} is not a version (like 1.26.4)") from None
    if str(version) != ".".join(map(str, version.release)):
        return str(version)  # A release candidate, say.
    return ".".join(map(str, (*version.release, 0, 0)[: max(3, len(version.release))]))


def fetch(
    name: str,
    version: str,
    target: Target,
    cache: Cache,
    folder: Path,
    *,
    offline: bool,
    pin: Pin | None,
    cancelled: threading.Event,
) -> Path:
    """Return the path of a wheel of `name` == `version` that fits `target`.

    One in `cache` is used as it is; else pip fetches it into `folder`, and it is kept.
    pin: take this wheel alone. cancelled: when set, pip is ended. Raises SelectionError.
    """
    for wheel in cache.find(f"wheels/{name}-{version}-*.whl"):
        if target.accepts(wheel.name) and pin in (None, Pin.of(version, wheel)):
            return wheel
    python = f"Python {target.version[0]}.{target.version[1]}"
    where = f"{python} on {target.machine}, glibc {target.glibc[0]}.{target.glibc[1]}"
    with tempfile.TemporaryDirectory(dir=folder, prefix="pip-") as temporary:
        # fmt: off
        command = [
            sys.executable, "-m", "pip", "download", f"{name}=={version}", "--no-deps",
            "--only-binary=:all:", "--dest", temporary, "--disable-pip-version-check",
            "--progress-bar=off", "--no-input", "--implementation=cp",
            f"--python-version={target.version[0]}.{target.version[1]}",
            *(f"--platform={platform}" for platform in target.platforms),
        ]
        # fmt: on
        environment = dict(os.environ)
        if offline:
            words, environment = pip_settings()
            command += words
        try:
            status, complaint = _run(command, environment | {"LC_ALL": "C.UTF-8"}, cancelled)
        except subprocess.TimeoutExpired:
            raise SelectionError(f"pip fetched no {name} {version} in {_SECONDS} s") from None
        found = list(Path(temporary).glob("*.whl"))
        if status != 0 or not found:
            raise SelectionError(_why(complaint, name, version, where, offline))
        if pin is not None and pin != (got := Pin.of(version, found[0])):
            raise SelectionError(
                f"pip fetches {got.file} (sha256 {got.sha256}) for {where}, the lock has "
                f"{pin.file} (sha256 {pin.sha256}): the index has changed, or is another"
            )
        wheel = found[0].replace(folder / found[0].name)
    cache.add(f"wheels/{wheel.name}", wheel)
    return wheel


def _run(command: list[str], env: dict[str, str], cancelled: threading.Event) -> tuple[int, str]:
    """Run pip and return its exit status and what it complains of."""
    with subprocess.Popen(
        command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE,
        text=True, env=env,
    ) as pip:  # fmt: skip
        end = time.monotonic() + _SECONDS
        try:
            while True:
                try:
                    _, complaint = pip.communicate(timeout=_LOOK)
                    return pip.returncode, complaint
                except subprocess.TimeoutExpired:
                    if cancelled.is_set() or time.monotonic() > end:
                        raise
        except BaseException:
            pip.kill()
            raise


def _why(stderr: str, name: str, version: str, where: str, offline: bool) -> str:
    """Turn what pip says into one line."""
    if "No module named pip" in stderr:
        return f"{sys.executable} has no pip, which fetches {name}: install it (ensurepip)"
    known = re.search(r"\(from versions: ([^)]*)\)", stderr)
    if known and known[1].strip() not in ("", "none"):
        versions = known[1].split(", ")
        stable = [v for v in versions if not re.search(r"[a-z]", v)] or versions
        return (
            f"{name} {version} does not exist or has no wheel for {where}; "
            f"there are {stable[0]} to {stable[-1]} (choose with --numpy)"
        )
    if offline:
        return (
            f"{name} {version} for {where} is not at hand and --offline forbids to fetch it "
            "(put the wheel into a folder that pip's find-links setting names)"
        )
    lines = [line for line in stderr.splitlines() if line.startswith("ERROR:")]
    reason = (lines or stderr.strip().splitlines() or ["no reason given"])[-1]
    reason = re.sub(r"://[^/@\s]+@", "://", reason.removeprefix("ERROR: "))
    return f"pip cannot fetch {name} {version} for {where}: {reason}"
