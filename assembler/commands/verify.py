"""`assembler verify`: its words, and the report."""

from __future__ import annotations

import argparse
import math
import re
from pathlib import Path
from typing import TYPE_CHECKING

from assembler.commands import words as shared

if TYPE_CHECKING:
    from assembler.progress import Progress
    from assembler.verify.run import Plan

HELP = "look into an image, start it and prove that it serves"
# What a container may take, where the words say nothing else.
_LIMITS = {"timeout": 300.0, "ready_timeout": 120.0, "memory": "4g", "shm_size": "1g"}
_NOT_WITH_PROVENANCE = (
    "static", "against", "model_repository", "requests", "junit", *_LIMITS,
)  # fmt: skip


def add(command: argparse.ArgumentParser) -> None:
    """Add the command's words."""
    command.add_argument(
        "image",
        metavar="IMAGE",
        help="a name (the Engine's image, else a registry's), the path of an archive or layout, or "
        "docker-daemon:REF, docker-archive:FILE, oci-archive:FILE, oci:DIR",
    )
    add = command.add_argument_group("what to check").add_argument
    add("--static", action="store_true", help="look into it only; start nothing")
    add("--against", metavar="FULL", help="compare with this image, bit for bit, and in time")
    add("--model-repository", type=Path, metavar="DIR", help="models of your own must load too")
    add(
        "--requests",
        type=Path,
        metavar="FILE",
        help='and answer these: JSON lines with "model", "inputs" and, if known, "expected"',
    )
    add("--record", type=Path, metavar="FILE", help="the image's record, where it is not found")
    add(
        "--provenance",
        action="store_true",
        help="read the full image and the base again, and compare every file with the record",
    )
    add("--source", metavar="REF", help="for --provenance: where the full image is now")
    add("--base", metavar="REF", help="for --provenance: where the base is now")
    add("--platform", action="append", metavar="OS/ARCH", help=f"default {shared.machine()}")
    limits = command.add_argument_group("limits of a container").add_argument
    seconds = "seconds; default %(default)g"
    limits("--timeout", type=float, metavar="S", help=seconds)
    limits("--ready-timeout", type=float, metavar="S", help=seconds)
    limits("--memory", metavar="SIZE", help="default %(default)s")
    limits("--shm-size", metavar="SIZE", help="default %(default)s")
    command.set_defaults(**_LIMITS)
    shared.access(command)
    command.add_argument("--junit", type=Path, metavar="FILE", help="also write JUnit XML there")
    shared.messages(command)


def run(words: argparse.Namespace, progress: Progress) -> int:
    """Make the checks and print the report; 0 only when all holds."""
    from assembler.destinations.files import check_output
    from assembler.errors import UsageError
    from assembler.verify import report as reports
    from assembler.verify.checks import Result
    from assembler.verify.run import verify

    if words.provenance:
        from assembler.commands import inspect

        for name in _NOT_WITH_PROVENANCE:
            if getattr(words, name) not in (None, False, _LIMITS.get(name)):
                raise UsageError(
                    f"--{name.replace('_', '-')} with --provenance: the files are compared with "
                    "the record, and nothing else is checked; run verify once more for that"
                )
        words.file = words.html = None
        return inspect.run(words, progress)
    if words.source or words.base:
        raise UsageError("--source and --base are for --provenance")
    if words.junit is not None:
        check_output(words.junit, over=True)

    def tell(result: Result) -> None:
        level = 0 if result.status == "failed" and words.json else 1
        progress.say(f"{result.status}: {result.part} {result.name}: {result.text}", level=level)

    found = verify(_plan(words, progress), tell)
    if words.junit is not None:
        reports.write_junit(found, words.junit, progress.seconds)
    if words.json:
        print(reports.text(found))
    elif not words.quiet or not found.holds:
        reports.table(found)
    return 0 if found.holds else 1


def _plan(words: argparse.Namespace, progress: Progress) -> Plan:
    from assembler.errors import UsageError
    from assembler.verify import requests
    from assembler.verify.container import Limits
    from assembler.verify.run import Plan, check_words

    platform = shared.platform_of(words)
    if not all(0 < each < math.inf for each in (words.timeout, words.ready_timeout)):
        raise UsageError("--timeout and --ready-timeout are seconds, more than 0")
    if not all(re.fullmatch("[1-9][0-9]*[bkmg]?", each) for each in (words.memory, words.shm_size)):
        raise UsageError("--memory and --shm-size are numbers of bytes, like 512m or 4g")
    plan = Plan(
        words.image,
        platform,
        shared.reach(words, progress),
        static_only=words.static,
        against=words.against,
        model_repository=words.model_repository,
        requests=requests.read(words.requests) if words.requests else (),
        record=words.record,
        cache=None if words.no_cache else words.cache_dir,
        limits=Limits(words.timeout, words.memory, words.shm_size),
        ready_seconds=words.ready_timeout,
    )
    check_words(plan)
    return plan
