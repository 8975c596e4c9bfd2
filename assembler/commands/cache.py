"""`assembler cache`: what is kept from run to run; less of it, or none."""

from __future__ import annotations

import argparse
import json
import re
import time
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING

from assembler.commands import words as shared

if TYPE_CHECKING:
    from assembler.caching.cache import Stored
    from assembler.progress import Progress

HELP = "show, prune or clear what is kept from run to run"
_TIMES = {"m": 60, "h": 3600, "d": 86400, "w": 604800}


def add(command: argparse.ArgumentParser) -> None:
    """Add the command's words."""
    command.add_argument(
        "action", nargs="?", choices=("show", "prune", "clear"), default="show",
        help="default %(default)s",
    )  # fmt: skip
    command.add_argument(
        "--max-size",
        type=shared.bytes_of,
        metavar="SIZE",
        help="prune: leave at most this, like 2GB",
    )
    command.add_argument(
        "--older-than", type=_seconds, metavar="TIME",
        help="prune: what was not used for so long, like 30d or 12h",
    )  # fmt: skip
    shared.cache(command.add_argument)
    shared.messages(command)


def run(words: argparse.Namespace, progress: Progress) -> int:
    """Show what there is, or what was removed."""
    from assembler.caching.cache import Cache
    from assembler.errors import UsageError

    if words.action != "prune" and (words.max_size is not None or words.older_than is not None):
        raise UsageError("--max-size and --older-than are for assembler cache prune")
    cache = Cache(words.cache_dir, progress.warn)
    if words.action == "show":
        _show(cache.files(), words.cache_dir, as_json=words.json)
        return 0
    if words.action == "clear":
        gone = cache.prune(limit=0)
    elif words.max_size is None and words.older_than is None:
        gone = cache.prune()
    else:
        gone = cache.prune(limit=words.max_size, age=words.older_than)
    _say(gone, as_json=words.json)
    return 0


def _show(files: list[Stored], folder: Path, *, as_json: bool) -> None:
    from rich.console import Console
    from rich.table import Table

    from assembler.progress import size

    sizes: Counter[str] = Counter()
    counts: Counter[str] = Counter()
    used: dict[str, float] = {}
    for each in files:
        kind = each.path.relative_to(folder).parts[0]
        sizes[kind] += each.size
        counts[kind] += 1
        used[kind] = max(used.get(kind, 0), each.used)
    if as_json:
        kinds = {
            kind: {"files": counts[kind], "size": sizes[kind], "used": round(used[kind])}
            for kind in sorted(sizes)
        }
        print(json.dumps({"folder": str(folder), "size": sizes.total(), "kinds": kinds}, indent=1))
        return
    table = Table("what", "files", "size", "last used", box=None, pad_edge=False)
    for kind in sorted(sizes):
        when = time.strftime("%Y-%m-%d %H:%M", time.localtime(used[kind]))
        table.add_row(kind, str(counts[kind]), size(sizes[kind]), when)
    console = Console(highlight=False, emoji=False)
    console.print(table)
    console.print(f"{size(sizes.total())} in {folder}", markup=False, soft_wrap=True)


def _say(gone: list[Stored], *, as_json: bool) -> None:
    from assembler.progress import size

    total = sum(each.size for each in gone)
    if as_json:
        print(json.dumps({"removed": {"files": len(gone), "size": total}}))
    else:
        print(f"removed {len(gone)} files, {size(total)}")


def _seconds(text: str) -> float:
    match = re.fullmatch(r"(\d+(?:\.\d+)?)([mhdw])", text)
    if not match:
        raise argparse.ArgumentTypeError(f"{text!r} is not a time like 12h or 30d")
    return float(match[1]) * _TIMES[match[2]]
