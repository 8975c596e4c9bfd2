"""Words that several commands share: what to take, where to read, how much to say."""

from __future__ import annotations

import argparse
import os
import platform
import re
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from assembler.oci import Platform
    from assembler.options import Options
    from assembler.progress import Progress
    from assembler.reference import ImageName
    from assembler.sources.opening import Access


def _cache_dir() -> Path:
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "assembler"


def machine() -> str:
    """Return the platform of this machine."""
    names = {"x86_64": "amd64", "aarch64": "arm64"}
    return f"linux/{names.get(platform.machine(), platform.machine())}"


def inputs(command: argparse.ArgumentParser, *, several: bool = False) -> None:
    """Add RELEASE and all that says what is taken from where. several: releases, a list."""
    command.add_argument(
        "release",
        nargs="*" if several else "?",
        metavar="RELEASE",
        help="year and month, like 24.05 (the default)" + ("; several" if several else ""),
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
        help="bring what is left out under this name: openvino, python-api; repeatable",
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
        help=f"default {machine()}; extract takes several, and makes an index of them",
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
    _layers(command)


def access(command: argparse.ArgumentParser) -> None:
    """Add what says how images are reached, and where the cache is."""
    add = command.add_argument_group("where to read").add_argument
    add(
        "--mirror",
        action="append",
        default=[],
        metavar="FROM=TO",
        help="read FROM at TO, like nvcr.io=registry.local:5000/ngc; repeatable: tried in order, "
        "before those of the config file (~/.config/assembler/config.toml)",
    )
    add(
        "--insecure",
        action="append",
        default=[],
        metavar="HOST",
        help="a registry that speaks plain HTTP, beside those on loopback; repeatable",
    )
    add("--offline", action="store_true", help="use no network at all")
    cache(add)
    add("--no-cache", action="store_true", help="read and write no cache")


def _layers(command: argparse.ArgumentParser) -> None:
    """Add what says how layers become known, for commands that select files out of them."""
    add = command.add_argument_group("how to read layers").add_argument
    add(
        "--cache-from",
        action="append",
        default=[],
        metavar="REF",
        help="a repository where --cache-to has put what is known of layers; repeatable",
    )
    add("--index", action="store_true", help="make a seek index while every layer is read")
    add(
        "--index-from",
        metavar="FILE|REF",
        help="fetch only what is wanted, as this seek index has it (assembler index makes them)",
    )
    add("--read-all", action="store_true", help="read every layer, whatever the cache knows")


def cache(add: Callable[..., object]) -> None:
    """Add what says where the cache is. add: `add_argument` of a command or a group."""
    add("--cache-dir", type=Path, default=_cache_dir(), metavar="DIR", help="default %(default)s")


def messages(command: argparse.ArgumentParser) -> None:
    """Add --json, -q and -v."""
    command.add_argument("--json", action="store_true", help="result as JSON on standard output")
    command.add_argument("-q", "--quiet", action="store_true", help="errors and warnings only")
    command.add_argument("-v", "--verbose", action="store_true", help="say more")


_UNITS = {"": 1, "k": 1000, "M": 1000**2, "G": 1000**3, "T": 1000**4}


def bytes_of(text: str) -> int:
    """Return the bytes that a size like 500MB or 2GB is, for argparse."""
    match = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([kMGT]?)B?", text)
    if not match:
        raise argparse.ArgumentTypeError(f"{text!r} is not a size like 500MB or 2GB")
    return int(float(match[1]) * _UNITS[match[2]])


def platforms_of(words: argparse.Namespace) -> tuple[Platform, ...]:
    """Return the platforms asked for; UsageError where one is none."""
    from assembler.errors import UsageError
    from assembler.oci import Platform

    try:
        return tuple(dict.fromkeys(map(Platform.parse, words.platform or [machine()])))
    except ValueError as error:
        raise UsageError(f"--platform: {error}") from None


def platform_of(words: argparse.Namespace) -> Platform:
    """Return the one platform asked for; UsageError where there are several."""
    from assembler.errors import UsageError

    first, *others = platforms_of(words)
    if others:
        raise UsageError(f"{words.command} takes one --platform")
    return first


def reach(words: argparse.Namespace, progress: Progress, leave_out: str = "") -> Access:
    """Return how images are reached: as `words` say, then as the config file does."""
    from assembler import settings
    from assembler.sources.opening import Access

    known = settings.load()
    mirrors = [*words.mirror, *known.mirrors]
    if leave_out:
        mirrors = [each for each in mirrors if each.partition("=")[2].rstrip("/") != leave_out]
    return Access(
        mirrors,
        [*words.insecure, *known.insecure],
        offline=words.offline,
        ca=known.ca,
        warn=progress.warn,
        note=progress.say,
    )


def options(
    words: argparse.Namespace,
    progress: Progress,
    *,
    leave_out: str = "",
    several: bool = False,
) -> Options:
    """Return what `words` ask for; UsageError where they make no sense.

    leave_out: a mirror that is not to be read from, since it is being written.
    several: whether the command takes several platforms.
    """
    from assembler.options import Options
    from assembler.wheels import check_version

    platforms = platforms_of(words) if several else (platform_of(words),)
    if words.numpy is not None:
        words.numpy = check_version(words.numpy)
    cache = None if words.no_cache else words.cache_dir
    found = Options(
        release=words.release,
        backends=tuple(sorted(set(words.backend or ("onnxruntime", "python")))),
        source=words.source,
        base=words.base,
        tags=tuple(getattr(words, "tag", ())),
        output=getattr(words, "output", None),
        push=tuple(getattr(words, "push", ())),
        multi_platform=getattr(words, "multi_platform", False),
        numpy=words.numpy,
        platform=platforms[0],
        platforms=platforms,
        builder=getattr(words, "builder", "direct"),
        keep=tuple(sorted(set(words.keep))),
        stages=tuple(words.stages),
        dockerfile=getattr(words, "dockerfile", None),
        cache=cache,
        read_all=words.read_all,
        make_index=words.index,
        index=words.index_from,
        cache_from=tuple(_repository(each, "--cache-from", cache) for each in words.cache_from),
        cache_to=tuple(
            _repository(each, "--cache-to", cache) for each in getattr(words, "cache_to", ())
        ),
        record=getattr(words, "record", None),
        lock=getattr(words, "lock", None),
        verify=getattr(words, "verify", False),
        access=reach(words, progress, leave_out),
    )
    if getattr(words, "locked", None) is None:
        return found
    from assembler.papers import lock, locking

    return locking.chosen(lock.read(words.locked), found, given(words), exact=True)


def given(words: argparse.Namespace) -> set[str]:
    """Return the names of the options that the user gave, of those that a lock has as well."""
    usual = {"builder": "direct"}
    names = ("release", "backend", "keep", "source", "base", "numpy", "platform", "builder")
    found = {
        name for name in names if getattr(words, name, None) not in (None, [], usual.get(name))
    }
    return {"backends" if name == "backend" else name for name in found}


def _repository(text: str, option: str, cache: Path | None) -> ImageName:
    from assembler.errors import UsageError
    from assembler.reference import ImageName

    if cache is None:
        raise UsageError(f"{option} goes by way of the cache: leave out --no-cache")
    name = ImageName.parse(text.removeprefix("docker://"))
    if not name.digest and ":" in text.rpartition("/")[2]:
        raise UsageError(f"{option} {text}: name a repository; the tags in it come by themselves")
    return name
