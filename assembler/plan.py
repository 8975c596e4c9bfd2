"""`assembler plan`: what extract would read, take and drop, in bytes; nothing is made of it."""

from __future__ import annotations

import json

from assembler import oci
from assembler.options import Options
from assembler.preparation import Prepared, opened, prepare
from assembler.progress import Progress, size


def plan(options: Options, progress: Progress, *, as_json: bool) -> int:
    """Print the plan to standard output and return the exit status."""
    with opened(options, progress) as inputs:
        document = _document(prepare(inputs, progress), options.access.bytes_read)
    if as_json:
        print(json.dumps(document, indent=1))
    else:
        _show(document)
    return 0


def _document(ready: Prepared, bytes_read: int) -> oci.Json:
    made = ready.assembly
    return {
        "release": ready.inputs.recipe.release,
        "source": ready.full.source.reference,
        "base": ready.base.source.reference,
        "numpy": made.numpy,
        "patches": made.patches,
        "packages": sorted(made.packages),
        "stages": [
            {
                "name": each.stage.name,
                "summary": each.stage.summary,
                "files": each.files,
                "size": each.size,
            }
            for each in made.stages
        ],
        "dropped": [
            {"reason": reason, "files": count, "size": total}
            for reason, (count, total) in sorted(made.dropped.items())
        ],
        "size": {
            "base": ready.base.size,
            "full": ready.full.size,
            "added": sum(each.size for each in made.stages),
        },
        "bytes_read": bytes_read,
    }


def _show(document: oci.Json) -> None:
    from rich.console import Console
    from rich.table import Table

    console = Console(highlight=False, emoji=False)
    taken = Table("take", "files", "size", "what", box=None, pad_edge=False)
    for each in document["stages"]:
        taken.add_row(each["name"], str(each["files"]), size(each["size"]), each["summary"])
    dropped = Table("drop", "files", "size", box=None, pad_edge=False)
    for each in document["dropped"]:
        dropped.add_row(each["reason"], str(each["files"]), size(each["size"]))
    console.print(taken, "", dropped, "", sep="\n")
    sizes = document["size"]
    for line in (
        f"packages {' '.join(document['packages'])}",
        f"patches  {' '.join(document['patches']) or 'none'}",
        f"size     {size(sizes['base'] + sizes['added'])}: base {size(sizes['base'])} + "
        f"{size(sizes['added'])}; the full image has {size(sizes['full'])}",
        f"read     {size(document['bytes_read'])}",
    ):
        console.print(line, markup=False, soft_wrap=True)
