"""Stage files: what to take, as data. README, "Adding a backend", shows how to write one."""

from __future__ import annotations

import difflib
import re
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from packaging.specifiers import InvalidSpecifier, SpecifierSet
from packaging.version import Version

from assembler.errors import SelectionError, UsageError, listing

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib


@dataclass(frozen=True)
class Take:
    """Paths to take (globs), each of which must match unless `optional`.

    otherwise: Debian packages to take where none of the paths matches.
    """

    paths: tuple[str, ...]
    reason: str = ""
    optional: bool = False
    otherwise: tuple[str, ...] = ()


@dataclass(frozen=True)
class Drop:
    """Paths (globs) that stay out, but for those of `but`, with the reason.

    keep: a name; `--keep NAME` leaves the rule out.
    """

    paths: tuple[str, ...]
    reason: str
    but: tuple[str, ...] = ()
    keep: str = ""


@dataclass(frozen=True)
class FileByFile:
    """Packages (globs) that are never taken whole: only the libraries that something needs."""

    packages: tuple[str, ...]
    reason: str


@dataclass(frozen=True)
class TextFile:
    """A small file of our own. `text` may name ${numpy}, the version pinned."""

    path: str
    text: str
    mode: int = 0o644


@dataclass(frozen=True)
class User:
    """A user that exists in the image, with a group and a home of its own."""

    name: str
    uid: int
    gid: int
    home: str


@dataclass(frozen=True)
class Environment:
    """inherit: names (globs) whose value in the full image is kept. paths: names whose value is a
    list of folders; those that exist in the slim image are kept. set: values of our own, in which
    ${NAME} is the base's.
    """

    inherit: tuple[str, ...] = ()
    paths: tuple[str, ...] = ()
    set: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Stage:
    """One stage file; `order` says where its layer lies (low: changes least).

    backend: it is taken when that backend is asked for, else always. keep: a name; it is taken
    with `--keep NAME` alone.
    refuse: the backend can not be had, and why. libraries: what the closure finds goes here.
    wheel: the Python package that is fetched and put in here. packages: Debian packages; one
    that ends in `?` may be absent. likely: paths (globs) that packages or needed libraries will
    turn out to be; it decides nothing, but spares reading a layer twice.
    """

    name: str
    summary: str
    order: int = 50
    releases: SpecifierSet = field(default_factory=SpecifierSet)
    backend: str = ""
    keep: str = ""
    refuse: str = ""
    libraries: bool = False
    wheel: str = ""
    packages: tuple[str, ...] = ()
    likely: tuple[str, ...] = ()
    take: tuple[Take, ...] = ()
    drop: tuple[Drop, ...] = ()
    file_by_file: tuple[FileByFile, ...] = ()
    file: tuple[TextFile, ...] = ()
    user: tuple[User, ...] = ()
    env: Environment = field(default_factory=Environment)
    labels: tuple[str, ...] = ()


_TABLES: dict[str, type] = {
    "take": Take,
    "drop": Drop,
    "file_by_file": FileByFile,
    "file": TextFile,
    "user": User,
}
_NUMBERS = {"order", "mode", "uid", "gid"}
_FLAGS = {"optional", "libraries"}
_LISTS = {"paths", "but", "otherwise", "packages", "labels", "inherit", "likely"}
_REQUIRED: dict[type, tuple[str, ...]] = {
    Take: ("paths",),
    Drop: ("paths", "reason"),
    FileByFile: ("packages", "reason"),
    TextFile: ("path", "text"),
    User: ("name", "uid", "gid", "home"),
    Stage: ("summary",),
    Environment: (),
}


class _Loader:
    """Turns TOML tables into the classes above and collects every problem on the way."""

    def __init__(self, where: str) -> None:
        self.where = where
        self.problems: list[str] = []

    def _problem(self, place: str, text: str) -> None:
        self.problems.append(f"{self.where}: {place}{text}")

    def build(self, kind: type, table: dict[str, Any], place: str, **given: Any) -> Any:
        known = [n for n in kind.__dataclass_fields__ if n not in given]  # type: ignore[attr-defined]
        values = dict(given)
        for key, value in table.items():
            if key not in known:
                near = difflib.get_close_matches(key, known, 1)
                hint = f" (did you mean {near[0]}?)" if near else f" (known: {', '.join(known)})"
                self._problem(place, f"unknown key {key!r}{hint}")
                continue
            checked = self._value(kind, key, value, place)
            if checked is not None:
                values[key] = checked
        missing = [key for key in _REQUIRED[kind] if key not in table]
        for key in missing:
            self._problem(place, f"key {key!r} is missing")
        return None if missing or self.problems else kind(**values)

    def _value(self, kind: type, key: str, value: Any, place: str) -> Any:
        if kind is Stage and key in _TABLES:
            return self._tables(key, value)
        if kind is Stage and key == "env":
            if not isinstance(value, dict):
                return self._wrong(place, key, "a table", value)
            return self.build(Environment, value, "[env] ")
        if key == "releases":
            try:
                return SpecifierSet(value)
            except (InvalidSpecifier, TypeError, AttributeError):
                return self._wrong(place, key, 'a version specifier like ">=23.05"', value)
        if key in _NUMBERS:
            whole = isinstance(value, int) and not isinstance(value, bool)
            return value if whole else self._wrong(place, key, "a whole number", value)
        if key in _FLAGS:
            return value if isinstance(value, bool) else self._wrong(place, key, "a flag", value)
        if key in _LISTS or (kind is Environment and key == "paths"):
            if isinstance(value, list) and value and all(isinstance(v, str) for v in value):
                return tuple(v.lstrip("/") if key == "paths" else v for v in value)
            return self._wrong(place, key, "a list of texts", value)
        if key == "set":
            if isinstance(value, dict) and all(isinstance(v, str) for v in value.values()):
                return value
            return self._wrong(place, key, "a table of texts", value)
        return value if isinstance(value, str) else self._wrong(place, key, "a text", value)

    def _tables(self, key: str, value: Any) -> Any:
        if not isinstance(value, list) or not all(isinstance(v, dict) for v in value):
            return self._wrong("", key, f"written as [[{key}]]", value)
        return tuple(
            self.build(_TABLES[key], table, f"[[{key}]] {number}: ")
            for number, table in enumerate(value, 1)
        )

    def _wrong(self, place: str, key: str, expected: str, value: Any) -> None:
        self._problem(place, f"{key!r} must be {expected}, not {value!r}")


def files(folders: list[Path]) -> dict[str, Path]:
    """Return the stage files of these folders by name; a later folder's replaces an earlier's."""
    found: dict[str, Path] = {}
    for folder in folders:
        if not folder.is_dir():
            raise UsageError(f"--stages {folder}: no such folder")
        found |= {path.stem: path for path in folder.glob("*.toml")}
    return found


def load(folders: list[Path]) -> list[Stage]:
    """Return the stages of these folders, in layer order; a later folder's file replaces one of
    the same name. Raises SelectionError that lists everything wrong in any of the files.
    """
    stages: list[Stage] = []
    problems: list[str] = []
    for name, path in files(folders).items():
        loader = _Loader(path.name)
        try:
            table = tomllib.loads(path.read_text("utf-8"))
        except (OSError, ValueError) as error:
            problems.append(f"{path.name}: {error}")
            continue
        stage = loader.build(Stage, table, "", name=name)
        problems += loader.problems
        if stage is not None:
            stages.append(stage)
    if problems:
        raise SelectionError(listing("stage files cannot be used", problems))
    return sorted(stages, key=lambda stage: (stage.order, stage.name))


def of_release(stages: list[Stage], release: str | None) -> list[Stage]:
    """Return the stages that are for this release; all where it is no year and month."""
    if not release or not re.fullmatch(r"\d\d\.\d\d", release):
        return stages
    return [s for s in stages if s.releases.contains(Version(release), prereleases=True)]


def choose(
    stages: list[Stage], backends: list[str], release: str | None, keep: list[str]
) -> list[Stage]:
    """Return the stages that make up an image: those of no backend, and those of `backends`.

    release: like 24.05; None where it is not known, then release ranges are not asked.
    keep: names whose `[[drop]]` rules are left out, and whose stages are taken.
    Raises UsageError for a backend or a name to keep that no stage knows.
    """
    stages = of_release(stages, release)
    known = {stage.backend: stage for stage in stages if stage.backend}
    problems = []
    for backend in backends:
        if backend not in known:
            near = ", ".join(sorted(name for name in known if not known[name].refuse))
            problems.append(
                f"no stage file for backend {backend!r}; there are {near} "
                "(--stages DIR adds files of your own)"
            )
        elif known[backend].refuse:
            problems.append(f"backend {backend!r} is refused: {known[backend].refuse}")
    chosen = [s for s in stages if not s.backend or s.backend in backends]
    keeps = {drop.keep for stage in chosen for drop in stage.drop if drop.keep}
    keeps |= {stage.keep for stage in chosen if stage.keep}
    chosen = [stage for stage in chosen if not stage.keep or stage.keep in keep]
    problems += [
        f"--keep {name}: no stage of this image knows it; there are "
        f"{', '.join(sorted(keeps)) or 'none'}"
        for name in keep
        if name not in keeps
    ]
    if problems:
        raise UsageError(listing("the image cannot be made", problems))
    return chosen
