"""Words that several commands share: what to take, where to read, how much to say."""

from __future__ import annotations

import argparse
import os
import platform
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from assembler.options import Options


def _cache_dir() -> Path:
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "assembler"


def _machine() -> str:
    names = {"x86_64": "amd64", "aarch64": "arm64"}
    return f"linux/{names.get(platform.machine(), platform.machine())}"


def inputs(command: argparse.ArgumentParser) -> None:
    """Add RELEASE and all that says what is taken from where."""
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
    add(
        "--platform",
        action="append",
        metavar="OS/ARCH",
        help=f"default {_machine()}; given twice, extract makes an index",
    )
    add(
        "--stages",
        action="append",
        default=[],
        type=Path,
        metavar="DIR",
        help="a folder of stage files of your own, beside the known ones; repeatable",
    )
    access(command)


def access(command: argparse.ArgumentParser) -> None:
    """Add what says how images are reached, and the cache."""
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


def messages(command: argparse.ArgumentParser) -> None:
    """Add --json, -q and -v."""
    command.add_argument("--json", action="store_true", help="result as JSON on standard output")
    command.add_argument("-q", "--quiet", action="store_true", help="errors and warnings only")
    command.add_argument("-v", "--verbose", action="store_true", help="say more")


def options(
    words: argparse.Namespace, warn: Callable[[str], None], *, several: bool = False
) -> Options:
    """Return what `words` ask for; UsageError where they make no sense.

    several: whether the command takes several platforms.
    """
    from assembler.errors import UsageError
    from assembler.oci import Platform
    from assembler.options import Options
    from assembler.sources.opening import Access
    from assembler.wheels import check_version

    try:
        platforms = tuple(dict.fromkeys(map(Platform.parse, words.platform or [_machine()])))
    except ValueError as error:
        raise UsageError(f"--platform: {error}") from None
    if len(platforms) > 1 and not several:
        raise UsageError(f"{words.command} takes one --platform")
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
        platform=platforms[0],
        platforms=platforms,
        builder=getattr(words, "builder", "direct"),
        keep=tuple(words.keep),
        stages=tuple(words.stages),
        dockerfile=getattr(words, "dockerfile", None),
        cache=cache,
        record=getattr(words, "record", None),
        access=Access(words.mirror, words.insecure, offline=words.offline, warn=warn),
    )
