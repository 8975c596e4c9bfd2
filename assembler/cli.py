"""The command line: words to options, errors to one line. What is heavy is imported when used."""

from __future__ import annotations

import argparse
import json
import os
import platform
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from assembler import __version__

if TYPE_CHECKING:
    from assembler.extract import Result
    from assembler.options import Options
    from assembler.progress import Progress

_EXAMPLES = """examples:
  assembler extract 24.05                               into the local Docker Engine
  assembler extract 24.05 --output triton.tar           no Docker needed; docker load < triton.tar
  assembler extract 24.05 --source docker-daemon:nvcr.io/nvidia/tritonserver:24.05-py3
  assembler extract 24.05 --backend python --tag triton:py
  assembler plan 24.05                                  what would be taken, and how big it is
"""


def _cache_dir() -> Path:
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "assembler"


def _machine() -> str:
    names = {"x86_64": "amd64", "aarch64": "arm64"}
    return f"linux/{names.get(platform.machine(), platform.machine())}"


def parser() -> argparse.ArgumentParser:
    """Return the parser of all commands."""
    top = argparse.ArgumentParser(
        prog="assembler",
        description="A slim, CPU-only Triton Inference Server image out of the official full one.",
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    top.add_argument("--version", action="version", version=f"assembler {__version__}")
    commands = top.add_subparsers(dest="command", required=True, metavar="COMMAND")
    extract = commands.add_parser(
        "extract", help="make the slim image", formatter_class=argparse.RawDescriptionHelpFormatter
    )
    _inputs(extract)
    _outputs(extract)
    plan = commands.add_parser("plan", help="show what extract would read, take and drop")
    _inputs(plan)
    for command in (extract, plan):
        command.add_argument(
            "--json", action="store_true", help="result as JSON on standard output"
        )
        command.add_argument("-q", "--quiet", action="store_true", help="errors and warnings only")
        command.add_argument("-v", "--verbose", action="store_true", help="say more")
    return top


def _inputs(command: argparse.ArgumentParser) -> None:
    command.add_argument(
        "release", nargs="?", metavar="RELEASE", help="year and month, like 24.05 (the default)"
    )
    add = command.add_argument_group("what to take").add_argument
    add(
        "--backend",
        action="append",
        metavar="NAME",
        help="repeatable; default onnxruntime, python (ensemble is part of the server)",
    )
    add(
        "--keep",
        action="append",
        default=[],
        metavar="NAME",
        help="keep what a stage drops under this name, like openvino; repeatable",
    )
    add(
        "--source",
        metavar="REF",
        help="the full image; default nvcr.io/nvidia/tritonserver:RELEASE-py3; also "
        "docker-daemon:REF, docker-archive:FILE, oci-archive:FILE, oci:DIR",
    )
    add(
        "--base",
        metavar="REF",
        help="the base image, in the same forms; default the ubuntu of the release",
    )
    add("--numpy", metavar="VERSION", help="numpy to pin; default 1.26.4 (1.24.4 for Python 3.8)")
    add("--platform", default=_machine(), metavar="OS/ARCH", help="default %(default)s")
    add(
        "--stages",
        action="append",
        default=[],
        type=Path,
        metavar="DIR",
        help="a folder of stage files of your own, beside the known ones; repeatable",
    )
    _access(command)


def _access(command: argparse.ArgumentParser) -> None:
    add = command.add_argument_group("where to read").add_argument
    add(
        "--mirror",
        action="append",
        default=[],
        metavar="FROM=TO",
        help="read FROM at TO, like nvcr.io=registry.local:5000/ngc; repeatable",
    )
    add(
        "--insecure",
        action="append",
        default=[],
        metavar="HOST",
        help="a registry that speaks plain HTTP, beside those on loopback; repeatable",
    )
    add("--offline", action="store_true", help="use no network at all")
    add("--cache-dir", type=Path, default=_cache_dir(), metavar="DIR", help="%(default)s")
    add("--no-cache", action="store_true", help="read and write no cache")


def _outputs(command: argparse.ArgumentParser) -> None:
    add = command.add_argument_group("what to make").add_argument
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
        "--builder",
        choices=("direct", "engine"),
        default="direct",
        help="direct needs no Docker; engine runs docker build, for a Dockerfile with RUN",
    )
    add("--dockerfile", type=Path, metavar="FILE", help="in the place of Dockerfile.final")
    add("--record", type=Path, metavar="FILE", help="also write the record of every file there")


def _options(words: argparse.Namespace, warn: Callable[[str], None]) -> Options:
    from assembler.errors import UsageError
    from assembler.oci import Platform
    from assembler.options import Options
    from assembler.sources.opening import Access
    from assembler.wheels import check_version

    try:
        platform_ = Platform.parse(words.platform)
    except ValueError as error:
        raise UsageError(f"--platform: {error}") from None
    if words.numpy is not None:
        check_version(words.numpy)
    cache = None if words.no_cache else words.cache_dir
    return Options(
        release=words.release,
        backends=tuple(words.backend or ("onnxruntime", "python")),
        source=words.source,
        base=words.base,
        tags=tuple(getattr(words, "tag", ())),
        output=getattr(words, "output", None),
        numpy=words.numpy,
        platform=platform_,
        builder=getattr(words, "builder", "direct"),
        keep=tuple(words.keep),
        stages=tuple(words.stages),
        dockerfile=getattr(words, "dockerfile", None),
        cache=cache,
        record=getattr(words, "record", None),
        access=Access(words.mirror, words.insecure, offline=words.offline, warn=warn),
    )


def run(arguments: list[str]) -> int:
    """Run one command and return its exit status; errors of ours become one line."""
    words = parser().parse_args(arguments)
    from assembler.errors import AssemblerError
    from assembler.progress import Progress

    progress = Progress(-1 if words.quiet else 1 if words.verbose else 0)
    try:
        options = _options(words, progress.warn)
        if words.command == "plan":
            from assembler.plan import plan

            return plan(options, progress, as_json=words.json)
        from assembler.extract import extract

        result = extract(options, progress)
    except AssemblerError as error:
        print(f"assembler: {error}", file=sys.stderr)
        return error.exit_status
    except OSError as error:
        # Disks fill and permissions lack anywhere; the file says which.
        where = f"{error.filename}: " if error.filename else ""
        print(f"assembler: {where}{error.strerror or error}", file=sys.stderr)
        return 1
    if words.json:
        print(json.dumps(result.json(), indent=1))
    elif not words.quiet:
        _table(result, progress)
    return 0


def _table(result: Result, progress: Progress) -> None:
    from rich.console import Console
    from rich.table import Table

    from assembler.progress import size

    table = Table(box=None, pad_edge=False)
    for name, side in (("stage", "left"), ("files", "right"), ("size", "right"),
                       ("compressed", "right"), ("layer", "left")):  # fmt: skip
        table.add_column(name, justify=side, no_wrap=True)  # type: ignore[arg-type]
    for stage in result.stages:
        table.add_row(
            stage["name"], str(stage["files"]), size(stage["size"]), size(stage["compressed"]),
            stage["digest"][7:19],
        )  # fmt: skip
    console = Console(stderr=True, highlight=False)
    console.print(table)
    added = sum(stage["size"] for stage in result.stages)
    for line in (
        f"image   {', '.join(result.tags)}",
        f"id      {result.image.id}",
        f"digest  {result.image.digest}",
        f"size    {size(result.base_size + added)}: base {size(result.base_size)} + {size(added)}; "
        f"the full image has {size(result.full_size)}",
        f"took    {progress.seconds:.1f} s, {size(result.bytes_read)} read",
    ):
        console.print(line, markup=False, soft_wrap=True)
