"""`assembler extract`: its words, and the table at the end."""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from assembler.commands import words as shared

if TYPE_CHECKING:
    from assembler.extract import Result
    from assembler.options import Options
    from assembler.progress import Progress

HELP = "make the slim image"
_NOT_WITH_BUNDLE = (
    "source", "base", "numpy", "keep", "stages", "dockerfile", "index", "index_from", "read_all",
)  # fmt: skip


def add(command: argparse.ArgumentParser) -> None:
    """Add the command's words."""
    shared.inputs(command)
    _outputs(command)
    shared.messages(command)


def run(words: argparse.Namespace, progress: Progress) -> int:
    """Make and deliver the image, and print what it is."""
    from assembler.extract import extract

    if words.bundle:
        with bundled(words, progress) as options:
            result = extract(options, progress)
    else:
        options = shared.options(words, progress, several=True)
        if len(options.platforms) > 1:
            return _several(options, words, progress)
        result = extract(options, progress)
    if words.json:
        print(json.dumps(result.json(), indent=1))
    elif not words.quiet:
        _table(result, progress)
    return 0


def _several(options: Options, words: argparse.Namespace, progress: Progress) -> int:
    """Make an image for each platform, and their index."""
    from assembler.platforms import extract_all

    made = extract_all(options, progress)
    if words.json:
        print(json.dumps(made.json(), indent=1))
    elif not words.quiet:
        for result in made.images.values():
            _table(result, progress)
        for name, digest in made.pushed.items():
            progress.say(f"pushed  {name}@{digest}")
        if not made.pushed or words.output:
            progress.say(f"index   {made.digest}")
    return 0


@contextmanager
def bundled(words: argparse.Namespace, progress: Progress) -> Iterator[Options]:
    """Yield the options of the image in words.bundle that the other words ask for.

    Raises UsageError for words that make another image than that.
    """
    from assembler.bundle.opening import chosen, opened
    from assembler.errors import UsageError

    given = shared.given(words)
    odd = [name for name in _NOT_WITH_BUNDLE if getattr(words, name) not in (None, [], False)]
    odd += given & {"builder"}
    if odd:
        name = odd[0].replace("_", "-")
        raise UsageError(f"--{name} with --bundle: the bundle says what is made, and of what")
    locked, words.locked = words.locked, None
    options = shared.options(words, progress)
    if locked:
        from assembler.papers import lock

        known = lock.read(locked)

    def asked(image: Mapping[str, Any]) -> bool:
        return all(
            ("release" not in given or image["release"] == words.release,
             "backends" not in given or set(image["backends"]) == set(words.backend),
             "platform" not in given or image["platform"] == str(options.platform))
        )  # fmt: skip

    with opened(words.bundle, asked) as found:
        yield chosen(found, options, known if locked else None)


def _outputs(command: argparse.ArgumentParser) -> None:
    group = command.add_argument_group("what to make")
    add = group.add_argument
    add(
        "--tag",
        action="append",
        default=[],
        metavar="NAME",
        help="repeatable; default tritonserver:RELEASE-BACKENDS-cpu",
    )
    add(
        "--output",
        type=Path,
        metavar="FILE|DIR",
        help="write an archive (FILE.tar) or an OCI layout (DIR), not into the Engine",
    )
    add(
        "--push",
        action="append",
        default=[],
        metavar="REF",
        help="send it to a registry, with its record; repeatable. Without --tag and --output, "
        "nothing goes into the Engine",
    )
    add(
        "--multi-platform",
        action="store_true",
        help="with --push: put it into the index that the tag names, beside other platforms",
    )
    add(
        "--builder",
        choices=("direct", "engine"),
        default="direct",
        help="direct needs no Docker; engine runs docker build, for a Dockerfile with RUN",
    )
    add(
        "--cache-to",
        action="append",
        default=[],
        metavar="REF",
        help="put what is now known of the layers into this repository; repeatable",
    )
    add("--dockerfile", type=Path, metavar="FILE", help="in the place of Dockerfile.final")
    add("--verify", action="store_true", help="prove that it serves before it gets its name")
    add(
        "--record",
        type=Path,
        metavar="DIR|FILE",
        help="also write there record.json, sbom.cdx.json and provenance.intoto.json (a name that "
        "ends in .json: the record alone)",
    )
    add("--bundle", type=Path, metavar="FILE", help="make it out of this bundle, and nothing else")
    locks = group.add_mutually_exclusive_group()
    locks.add_argument("--lock", type=Path, metavar="FILE", help="also write every input there")
    locks.add_argument(
        "--locked", type=Path, metavar="FILE", help="use what this lock has, and nothing else"
    )


def _table(result: Result, progress: Progress) -> None:
    from rich.console import Console
    from rich.table import Table

    from assembler.progress import size

    table = Table(box=None, pad_edge=False)
    for name, side in (("stage", "left"), ("files", "right"), ("size", "right"),
                       ("stored", "right"), ("seconds", "right"), ("layer", "left")):  # fmt: skip
        table.add_column(name, justify=side, no_wrap=True)  # type: ignore[arg-type]
    for stage in result.finished.stages:
        table.add_row(
            stage["name"], str(stage["files"]), size(stage["size"]), size(stage["compressed"]),
            f"{result.finished.seconds.get(stage['name'], 0.0):.1f}", stage["digest"][7:19],
        )  # fmt: skip
    console = Console(stderr=True, highlight=False, emoji=False)
    console.print(table)
    base, image = result.finished.base_size, result.finished.image
    for line in (
        f"image   {', '.join((*result.tags, *result.pushed))}",
        f"id      {image.id}",
        f"digest  {image.digest}",
        f"size    {size(result.size)}: base {size(base)} + {size(result.size - base)}; "
        f"the full image has {size(result.finished.full_size)}",
        f"took    {progress.seconds:.1f} s, {size(result.bytes_read)} read",
    ):
        console.print(line, markup=False, soft_wrap=True)
