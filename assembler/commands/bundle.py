"""`assembler bundle`: put all that `extract` needs into one file, or check such a file."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import TYPE_CHECKING

from assembler.commands import words as shared

if TYPE_CHECKING:
    from assembler.bundle.file import BundleFile
    from assembler.progress import Progress

HELP = "put all that extract needs into one file, to carry over an air gap"


def add(command: argparse.ArgumentParser) -> None:
    """Add the command's words."""
    shared.inputs(command, several=True)
    add = command.add_argument_group("what to make").add_argument
    add("-o", "--output", type=Path, metavar="FILE", help="the bundle")
    add(
        "--split",
        type=shared.bytes_of,
        default=0,
        metavar="SIZE",
        help="write FILE.001, FILE.002 … of this size, like 2GB (cat joins them)",
    )
    add(
        "--tools",
        action="store_true",
        help="add the assembler and what it needs as wheels, for this Python and platform",
    )
    add("--dockerfile", type=Path, metavar="FILE", help="in the place of Dockerfile.final")
    add("--locked", type=Path, metavar="FILE", help="use what this lock has, and nothing else")
    add(
        "--check",
        type=Path,
        nargs="+",
        metavar="FILE",
        help="verify every byte of a bundle (or of its parts, named in their order), and no more",
    )
    shared.messages(command)


def run(words: argparse.Namespace, progress: Progress) -> int:
    """Make a bundle, or check one, and print what is in it."""
    from assembler.bundle import parts
    from assembler.bundle.file import BundleFile
    from assembler.bundle.writing import write
    from assembler.errors import UsageError

    if words.check:
        if any((words.release, words.output, words.split, words.tools, words.locked,
                words.dockerfile)):  # fmt: skip
            raise UsageError("--check takes a bundle's files and nothing else")
        with BundleFile(words.check) as file:
            file.verify()
            _say(file, list(map(str, file.parts.paths)), words, progress)
        return 0
    if words.output is None:
        raise UsageError("say where to write the bundle (-o FILE), or what to check (--check FILE)")
    if words.tools and words.offline:
        raise UsageError("--tools fetches wheels by the network, and --offline forbids it")
    if words.locked and len(words.release) > 1:
        raise UsageError("a lock is of one image: name one RELEASE, or none")
    if words.source and len(set(words.release)) > 1:
        raise UsageError("--source is one image: name one RELEASE, or let --mirror say where")
    parts.check_free(words.output, split=bool(words.split))
    runs = []
    for release in list(dict.fromkeys(words.release)) or [None]:
        words.release = release
        runs.append(shared.options(words, progress))
    files = write(runs, words.output, words.split, progress, tools=words.tools)
    with BundleFile([files[0]]) as file:
        _say(file, list(map(str, files)), words, progress)
    return 0


def _say(file: BundleFile, names: list[str], words: argparse.Namespace, progress: Progress) -> None:
    from assembler.bundle.file import shown
    from assembler.progress import size

    if words.json:
        keys = ("release", "backends", "platform", "image")
        images = [{key: image[key] for key in keys} for image in file.images]
        found = {"files": names, "size": file.parts.size, "images": images}
        print(json.dumps(found | {"seconds": round(progress.seconds, 3)}, indent=1))
        return
    for image in file.images:
        progress.say(f"{shown(image)}: {image['image']['digest']}")
    files = names[0] if len(names) == 1 else f"{names[0]} to {Path(names[-1]).name}"
    state = "whole" if words.check else "written"
    progress.say(f"{files}: {state}, {size(file.parts.size)}, {len(file.members)} members")
