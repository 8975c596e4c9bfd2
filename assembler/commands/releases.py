"""`assembler releases`: the releases that are known, as table or JSON."""

from __future__ import annotations

import argparse
import json
from typing import TYPE_CHECKING

from assembler.commands import words as shared

if TYPE_CHECKING:
    from assembler.progress import Progress

HELP = "list the releases that are known"


def add(command: argparse.ArgumentParser) -> None:
    """Add the command's words."""
    shared.messages(command)


def run(words: argparse.Namespace, _progress: Progress) -> int:
    """Print the list, the oldest first."""
    from assembler import releases

    rows = [
        {
            "release": row.name,
            "triton": row.triton,
            "ubuntu": row.ubuntu,
            "python": row.python,
            "onnxruntime": row.onnxruntime,
            "numpy": {"default": row.numpy, "takes_2": row.takes_numpy_2},
            "size_mb": row.size,
            "source": releases.default_source(row.name),
        }
        for row in releases.table().values()
    ]
    if words.json:
        print(json.dumps(rows, indent=1))
    else:
        _show(rows)
    return 0


def _show(rows: list[dict[str, object]]) -> None:
    from rich.console import Console
    from rich.table import Table

    names = ("release", "Triton", "Ubuntu", "Python", "ONNX Runtime", "numpy", "adds")
    table = Table(*names, box=None, pad_edge=False)
    for row in rows:
        numpy = row["numpy"]
        assert isinstance(numpy, dict)
        policy = f"{numpy['default']}{' or 2.x' if numpy['takes_2'] else ''}"
        cells = (str(row[key]) for key in ("release", "triton", "ubuntu", "python", "onnxruntime"))
        table.add_row(*cells, policy, f"~{row['size_mb']} MB")
    Console(highlight=False).print(table)
