"""A bundle made, from options to the file."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from assembler import interrupts
from assembler.bundle import file, making, parts
from assembler.caching.cache import Cache
from assembler.errors import UsageError
from assembler.extract import finish
from assembler.options import Options
from assembler.preparation import opened, prepare
from assembler.progress import Progress

_LEAST = 1_000_000


def write(
    runs: Sequence[Options], path: Path, part: int, progress: Progress, *, tools: bool
) -> list[Path]:
    """Make the images of `runs` and write all that they need to `path`; return the files written.

    part: bytes of each part, 0 for one file. tools: add the assembler. Raises AssemblerError.
    """
    if part and part < _LEAST:
        raise UsageError("--split: parts are of 1MB or more")
    # What was read is kept in a cache; where the user wants none, in one that ends with the run.
    with interrupts.held():
        home = Cache(runs[0].cache, progress.warn).scratch()
        made = tempfile.TemporaryDirectory(prefix="bundle-", dir=home, ignore_cleanup_errors=True)
    with made as folder:
        scratch = Path(folder)
        (scratch / "members").mkdir()
        members = making.Members(scratch / "members")
        images: list[dict[str, Any]] = []
        for options in runs:
            images.append(_one(options, scratch, members, progress))
        if tools:
            from assembler.bundle.tools import gather

            gather(members, scratch, progress)
        total, pieces = file.pieces(members.files, images, part)
        progress.say(f"writing {path}", level=1)
        return parts.write(path, pieces, part, total)


def _one(
    options: Options, scratch: Path, members: making.Members, progress: Progress
) -> dict[str, Any]:
    # As for a file: compressed layers, so that the record is of what most will make of it.
    options = replace(options, cache=options.cache or scratch / "cache", output=scratch / "image")
    with opened(options, progress) as inputs:
        ready = prepare(inputs, progress)
        made = finish(ready, progress)
        progress.say(f"packing {inputs.full.reference}", level=1)
        found = making.add(members, ready, made.record)
        inputs.cache.prune()
        return found
