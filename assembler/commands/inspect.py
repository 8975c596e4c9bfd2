"""`assembler inspect`: its words."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from assembler.commands import words as shared

if TYPE_CHECKING:
    from assembler.caching.cache import Cache
    from assembler.papers.record import Record
    from assembler.progress import Progress
    from assembler.sources import Source
    from assembler.sources.opening import Access

HELP = "show what is in an image, from where, and why"


def add(command: argparse.ArgumentParser) -> None:
    """Add the command's words."""
    command.add_argument(
        "image",
        metavar="IMAGE",
        help="a name (the Engine's image, else a registry's), the path of an archive or layout, or "
        "docker-daemon:REF, docker-archive:FILE, oci-archive:FILE, oci:DIR",
    )
    add = command.add_argument_group("what to show").add_argument
    add("--file", metavar="PATH", help="one path: where it came from and why, or why it is missing")
    add("--html", type=Path, metavar="FILE", help="also write a report for a browser, in one file")
    add("--record", type=Path, metavar="DIR|FILE", help="the record that extract wrote; without, "
        "it is looked for beside the image and in the cache")  # fmt: skip
    add(
        "--provenance",
        action="store_true",
        help="read the full image and the base again and compare every file with the record",
    )
    add("--source", metavar="REF", help="the full image for that; default: as the record names it")
    add("--base", metavar="REF", help="the base for that; default: as the record names it")
    add("--platform", action="append", metavar="OS/ARCH", help=f"default {shared.machine()}")
    shared.access(command)
    shared.messages(command)


def run(words: argparse.Namespace, progress: Progress) -> int:
    """Print the report, or the answer for one path."""
    import json
    import tempfile

    from assembler.caching.cache import Cache
    from assembler.destinations.files import check_output, made_beside
    from assembler.errors import UsageError
    from assembler.inspection import opening, text
    from assembler.inspection.report import Inspected
    from assembler.papers import finding

    if not words.provenance and (words.source or words.base):
        raise UsageError("--source and --base are for --provenance")
    if words.provenance and (words.file or words.html):
        raise UsageError("--file and --html with --provenance: it shows what it compared alone")
    if words.html is not None:
        check_output(words.html, over=True)
    cache = Cache(None if words.no_cache else words.cache_dir, progress.warn)
    access = shared.reach(words, progress)
    with (
        tempfile.TemporaryDirectory(prefix="assembler-") as folder,
        opening.opened(words.image, shared.platform_of(words), access) as (reference, source),
    ):
        with progress.reading(source.reference, sum(source.sizes)) as access.on_bytes:
            view = opening.read(source, Path(folder))
        record, where = finding.find(words.record, reference, source, access, cache, derived=True)
        if words.provenance:
            return _provenance(words, access, source, record, cache, Path(folder))
        image = Inspected(str(reference), view, record, where)
        answer = image.report() if words.file is None else image.explain(words.file)
        if words.html is not None:
            from assembler.inspection import html

            with made_beside(words.html, folder=False, over=True) as temporary:
                temporary.write_text(html.page(image.report()), "utf-8")
    if words.json:
        print(json.dumps(answer, indent=1))
    elif words.file is not None:
        text.explain(answer)
    elif words.html is None:
        text.show(answer)
    return 0


def _provenance(
    words: argparse.Namespace,
    access: Access,
    image: Source,
    record: Record | None,
    cache: Cache,
    folder: Path,
) -> int:
    import json

    from assembler.errors import UsageError
    from assembler.inspection import text
    from assembler.papers import provenance
    from assembler.papers.lock import Pinned
    from assembler.reference import Reference

    if record is None:
        raise UsageError(f"{image.reference} has no record to check it by: name one with --record")
    full, base = (
        Reference.parse(
            given or Pinned(*(record[key][part] for part in ("name", "config", "digest"))).address
        )
        for key, given in (("source", words.source), ("base", words.base))
    )
    platform = shared.platform_of(words)
    with access.open(full, platform) as theirs, access.open(base, platform) as bottom:
        found = provenance.check(image, record, theirs, bottom, folder, cache.find("wheels/*.whl"))
    if words.json:
        print(json.dumps([vars(each) for each in found], indent=1))
    else:
        text.findings(found)
    return int(any(each.kind == provenance.WRONG for each in found))
