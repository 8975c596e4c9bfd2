"""`assembler plan`: what extract would read, take and drop, in bytes; nothing is written."""

from __future__ import annotations

import json

from assembler.options import Options
from assembler.preparation import Prepared, opened, prepare
from assembler.progress import Progress, size


def plan(options: Options, progress: Progress, *, as_json: bool) -> int:
    """Print the plan to standard output and return the exit status."""
    with opened(options, progress) as inputs:
        ready = prepare(inputs, progress)
        document = {
            "release": inputs.recipe.release,
            "source": ready.full.source.reference,
            "base": ready.base.source.reference,
            "numpy": ready.assembly.numpy,
            "patches": ready.assembly.patches,
            "packages": sorted(ready.assembly.packages),
            "stages": [
                {
                    "name": made.stage.name,
                    "summary": made.stage.summary,
                    "files": sum(node.kind != "dir" for node in made.nodes),
                    "size": made.size,
                }
                for made in ready.assembly.stages
            ],
            "dropped": [
                {"reason": reason, "files": count, "size": total}
                for reason, (count, total) in sorted(ready.assembly.dropped.items())
            ],
            "size": {
                "base": ready.base.size,
                "full": ready.full.size,
                "added": sum(made.size for made in ready.assembly.stages),
            },
            "bytes_read": options.access.bytes_read,
        }
        if as_json:
            print(json.dumps(document, indent=1))
        else:
            _show(ready, options)
    return 0


def _show(ready: Prepared, options: Options) -> None:
    from rich.console import Console
    from rich.table import Table

    console = Console(highlight=False, emoji=False)
    taken = Table("take", "files", "size", "what", box=None, pad_edge=False)
    for made in ready.assembly.stages:
        count = sum(node.kind != "dir" for node in made.nodes)
        taken.add_row(made.stage.name, str(count), size(made.size), made.stage.summary)
    dropped = Table("drop", "files", "size", box=None, pad_edge=False)
    for reason, (count, total) in sorted(ready.assembly.dropped.items()):
        dropped.add_row(reason, str(count), size(total))
    console.print(taken, "", dropped, "", sep="\n")
    added = sum(made.size for made in ready.assembly.stages)
    for line in (
        f"packages {' '.join(sorted(ready.assembly.packages))}",
        f"patches  {' '.join(ready.assembly.patches) or 'none'}",
        f"size     {size(ready.base.size + added)}: base {size(ready.base.size)} + {size(added)}; "
        f"the full image has {size(ready.full.size)}",
        f"read     {size(options.access.bytes_read)}",
    ):
        console.print(line, markup=False, soft_wrap=True)
