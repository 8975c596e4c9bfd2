"""Whether an image is what its record claims: the source is read again and compared.

Every file above the base must be, byte for byte, the one that the record names in the full image;
the base's layers must be the base's. What is ours (wheels, patches, files written here, the
config) is listed, so that nothing in an image goes unsaid.
"""

from __future__ import annotations

import hashlib
import re
import zipfile
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from assembler import oci
from assembler.papers.record import OURS, Record
from assembler.sources import Source
from assembler.tree import Entry
from assembler.view import View

# What a finding means: as claimed, ours as claimed, or wrong.
SAME, MADE, WRONG = "same", "ours", "wrong"
# Written anew by whatever installs a wheel.
_INSTALLED = (".dist-info/RECORD", ".dist-info/INSTALLER")


@dataclass(frozen=True)
class Finding:
    """One thing that was found out. kind: same, ours or wrong. path: of a file, or what it is."""

    kind: str
    path: str
    text: str


def check(
    image: Source,
    record: Record,
    full: Source,
    base: Source,
    folder: Path,
    wheels: Iterable[Path] = (),
) -> list[Finding]:
    """Return all that was found, wrong things first. It is as claimed when nothing is wrong.

    folder: empty, for contents. wheels: those at hand; one with the record's hash is compared.
    Raises SourceError and VerificationError where an image cannot be read.
    """
    files: dict[str, dict[str, Any]] = record["files"]
    bottom = list(_layers(image, record, base))
    if any(each.kind == WRONG for each in bottom):
        return bottom
    below = View.of(base, _made(folder / "base"), lambda _: False).tree
    ours = View.of(image, _made(folder / "image"), lambda path: f"/{path}" in files)
    wanted = {each.get("source_path", path)[1:] for path, each in files.items()}
    theirs = View.of(full, _made(folder / "full"), wanted.__contains__)
    if oci.sha256(full.config) != record["source"]["config"]:
        text = f"{full.reference} is another image than the record's {record['source']['name']}"
        return [Finding(WRONG, "source", text)]
    _fetch(ours, (path[1:] for path in files))
    _fetch(theirs, wanted)
    found = [*bottom, *_image(ours, files, len(base.diff_ids))]
    gone = (path for path in below if path not in ours.tree)
    found += (Finding(WRONG, f"/{path}", "is in the base and not in the image") for path in gone)
    found += _modes(ours, theirs, record)
    found += _source(theirs, record)
    found += _wheels(record, wheels)
    found.append(Finding(MADE, "config", "made of the base's config and Dockerfile.final"))
    return sorted(found, key=lambda each: ((WRONG, SAME, MADE).index(each.kind), each.path))


def _made(path: Path) -> Path:
    path.mkdir()
    return path


def _fetch(view: View, paths: Iterable[str]) -> None:
    view.fetch(path for path in paths if (e := view.tree.get(path)) and e.kind == "file")


def _layers(image: Source, record: Record, base: Source) -> Iterator[Finding]:
    """The layers are the base's, ours, and no other."""
    count, ours = len(base.diff_ids), [layer["diff_id"] for layer in record["layers"]]
    if image.diff_ids[:count] != base.diff_ids:
        yield Finding(WRONG, "base", f"its lowest layers are not those of {base.reference}")
    else:
        yield Finding(SAME, "base", f"{count} layers are those of {base.reference}")
    if list(image.diff_ids[count : count + len(ours)]) != ours:
        yield Finding(WRONG, "layers", "its layers are not those that the record is of")
    elif len(image.diff_ids) > count + len(ours):
        over = len(image.diff_ids) - count - len(ours)
        yield Finding(WRONG, "layers", f"it has {over} layers that the record knows nothing of")


def _image(view: View, files: Mapping[str, dict[str, Any]], base: int) -> Iterator[Finding]:
    """What is in our layers is what the record lists, and nothing else."""
    for path in view.tree:
        entry = view.tree[path]
        if entry.layer >= base and f"/{path}" not in files:
            yield Finding(WRONG, f"/{path}", "is in the image and not in the record")
    for path, claim in files.items():
        there = view.tree.get(path[1:])
        if there is None or there.layer < base:
            yield Finding(WRONG, path, "is in the record and not in the image")
        elif (was := _seen(view, path[1:], there)) != (is_ := _claimed(claim, "sha256")):
            yield Finding(WRONG, path, f"is {was}, the record says {is_}")


def _source(view: View, record: Record) -> Iterator[Finding]:
    """What the record says is the full image's is there, in that layer."""
    same = 0
    for path, claim in record["files"].items():
        kind = record["origins"][claim["origin"]]["kind"]
        if kind == OURS and claim["kind"] != "dir":
            yield Finding(MADE, path, claim["reason"])
        if kind != "layer":
            continue
        where = claim.get("source_path", path)
        entry = view.tree.get(where[1:])
        seen = _seen(view, where[1:], entry) if entry else "not there"
        wanted = _claimed(claim, "original" if "original" in claim else "sha256")
        name = view.source.reference
        if seen != wanted:
            yield Finding(WRONG, path, f"is claimed to be {where} of {name}, which is {seen}")
        elif view.origin(where[1:]) != claim["origin"]:
            layer = view.origin(where[1:])
            yield Finding(WRONG, path, f"is claimed to be of layer {claim['origin']}, not {layer}")
        elif "original" in claim:
            yield Finding(MADE, path, claim["reason"])
        else:
            same += claim["kind"] != "dir"
    text = f"{same} files and links are those of {view.source.reference}, byte for byte"
    yield Finding(SAME, "source", text)


def _modes(ours: View, theirs: View, record: Record) -> Iterator[Finding]:
    """Files of the full image have its modes; those of wheels, and ours, give nobody more rights
    than they have.
    """
    for path, claim in record["files"].items():
        there = ours.tree.get(path[1:])
        if claim["kind"] != "file" or there is None:
            continue
        source = theirs.tree.get(claim.get("source_path", path)[1:])
        if record["origins"][claim["origin"]]["kind"] == "layer":
            if source is not None and source.mode != there.mode:
                text = f"has mode {there.mode:o}, in the full image {source.mode:o}"
                yield Finding(WRONG, path, text)
        elif there.mode & 0o6000:
            yield Finding(WRONG, path, f"has mode {there.mode:o}, which no file made here has")


def _wheels(record: Record, wheels: Iterable[Path]) -> Iterator[Finding]:
    at_hand = {hashlib.sha256(path.read_bytes()).hexdigest(): path for path in wheels}
    for name, origin in record["origins"].items():
        if origin["kind"] != "wheel":
            continue
        files = {p: each for p, each in record["files"].items()
                 if each["origin"] == name and each["kind"] == "file"}  # fmt: skip
        wheel = at_hand.get(origin["sha256"])
        if wheel is None:
            text = f"{len(files)} files; the wheel is not at hand to be compared"
            yield Finding(MADE, name, f"{text} (sha256 {origin['sha256']})")
            continue
        with zipfile.ZipFile(wheel) as archive:
            inside = {hashlib.sha256(archive.read(each)).hexdigest() for each in archive.namelist()}
            scripts = set(_scripts(archive))
        new = [p for p, each in files.items() if each["sha256"] not in inside]
        for path in new:
            folder, _, script = path.rpartition("/")
            # A script is written anew, or its first line: it names the interpreter.
            if path.endswith(_INSTALLED) or (folder.endswith("/bin") and script in scripts):
                yield Finding(MADE, path, f"written as {name} was installed")
            else:
                yield Finding(WRONG, path, f"is claimed to be of {name}, which has no such file")
        text = f"{len(files) - len(new)} of {len(files)} files are the wheel's, byte for byte"
        yield Finding(MADE, name, f"{text}, the others written as it was installed")


def _scripts(archive: zipfile.ZipFile) -> Iterator[str]:
    """Names of what a wheel puts into bin (entry points specification; PEP 427)."""
    for name in archive.namelist():
        if name.endswith(".dist-info/entry_points.txt"):
            yield from re.findall(
                r"(?m)^([\w.-]+)\s*=", archive.read(name).decode(errors="replace")
            )
        elif ".data/scripts/" in name:
            yield name.rpartition("/")[2]


def _seen(view: View, path: str, entry: Entry) -> str:
    if entry.kind == "file":
        return f"a file of sha256 {view.content(path).sha256}"
    return f"a link to {entry.link}" if entry.kind == "symlink" else f"a {entry.kind}"


def _claimed(claim: Mapping[str, Any], key: str) -> str:
    if claim["kind"] == "file":
        return f"a file of sha256 {claim[key]}"
    return f"a link to {claim['target']}" if claim["kind"] == "symlink" else f"a {claim['kind']}"
