"""`assembler lock`: write a lock without building, or renew one."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from assembler.commands import words as shared

if TYPE_CHECKING:
    from assembler.progress import Progress

HELP = "write every input of an image into a lock file, or renew one"


def add(command: argparse.ArgumentParser) -> None:
    """Add the command's words."""
    shared.inputs(command)
    add = command.add_argument_group("what to write").add_argument
    add("-o", "--output", type=Path, metavar="FILE", help="the lock file")
    add(
        "--upgrade",
        type=Path,
        metavar="FILE",
        help="renew this lock: its choices, but for those given here, with what is there now",
    )
    add("--dockerfile", type=Path, metavar="FILE", help="in the place of Dockerfile.final")
    shared.messages(command)


def run(words: argparse.Namespace, progress: Progress) -> int:
    """Write the lock and print what is new in it."""
    import json
    from dataclasses import replace

    from assembler.destinations.files import check_output
    from assembler.errors import UsageError
    from assembler.papers import lock, locking
    from assembler.preparation import opened, prepare

    path = words.output or words.upgrade
    if path is None:
        raise UsageError(
            "say where to write the lock (-o FILE), or which to renew (--upgrade FILE)"
        )
    options = replace(shared.options(words, progress), output=None)
    old = lock.read(words.upgrade, edited=True) if words.upgrade else None
    if old is not None:
        options = locking.chosen(old, options, shared.given(words), exact=False)
    check_output(path, over=True)
    with opened(options, progress) as inputs:
        new = prepare(inputs, progress).lock
        with locking.written(new, path):
            pass
    changes = lock.changes(old, new) if old else []
    if words.json:
        print(json.dumps({"lock": new.document(), "changes": changes}, indent=1))
        return 0
    for change in changes:
        progress.say(change)
    news = f"renewed, {len(changes)} difference{'' if len(changes) == 1 else 's'}"
    progress.say(f"{path}: {news if old else 'written'}")
    return 0
