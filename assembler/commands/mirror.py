"""`assembler mirror`: its words, and the order of what it copies."""

from __future__ import annotations

import argparse
import json
from dataclasses import replace
from typing import TYPE_CHECKING

from assembler.commands import words as shared

if TYPE_CHECKING:
    from assembler.extract import Result
    from assembler.progress import Progress
    from assembler.registries.mirroring import Copied

CACHE = "assembler-cache"  # the repository, under --to, of what is known of layers
_SLIM_ALONE = (
    "backend", "keep", "numpy", "stages", "cache_from", "index", "index_from", "read_all",
)  # fmt: skip
HELP = "copy what extract needs, or what it makes, into a registry of your own"


def add(command: argparse.ArgumentParser) -> None:
    """Add the command's words."""
    add = command.add_argument_group("where to").add_argument
    add(
        "--to",
        required=True,
        metavar="HOST/PATH",
        help="nvcr.io/nvidia/tritonserver goes to HOST/PATH/nvidia/tritonserver, and so on",
    )
    add("--all-platforms", action="store_true", help="whole indexes, not one platform's images")
    add(
        "--slim",
        action="store_true",
        help="the slim image, which is made, its base, and the cache for HOST/PATH/assembler-cache "
        "(see extract --cache-from), in the place of the full image",
    )
    shared.inputs(command)
    shared.messages(command)


def run(words: argparse.Namespace, progress: Progress) -> int:
    """Copy, and print what is where."""
    from assembler import releases
    from assembler.errors import UsageError
    from assembler.reference import Reference
    from assembler.registries import mirroring

    to = words.to.rstrip("/")
    if words.offline:
        raise UsageError("mirror needs the network, and --offline forbids it")
    if words.slim and words.all_platforms:
        raise UsageError("--slim makes the image of one platform: leave out --all-platforms")
    for name in () if words.slim else _SLIM_ALONE:
        if getattr(words, name) not in (None, [], False):
            raise UsageError(
                f"--{name.replace('_', '-')} is for mirror --slim, which makes an image"
            )
    options = shared.options(words, progress, leave_out=to)
    release = releases.check(options.release or releases.DEFAULT)
    # The base first: the layers that the full image was built on are then mounted from there.
    texts = [options.base or releases.default_base(release)]
    if not words.slim:
        texts.append(options.source or releases.default_source(release))
    pairs = [mirroring.destination(to, Reference.parse(text)) for text in texts]
    client = options.access.client
    copier = mirroring.Mirroring(client, None if words.all_platforms else options.platform)
    plans = [copier.plan(*pair) for pair in pairs]
    done: list[Copied] = []
    total = sum(plan.size for plan in plans)
    with progress.reading(f"into {to}", total, "copying") as copier.on_bytes:
        for plan in plans:
            done.append(copier.copy(plan, [each.target for each in done]))
    made = _slim(words, to, release, pairs[0][0].registry, progress) if words.slim else None
    seconds = round(progress.seconds, 3)
    if words.json:
        document = {"images": [each.json() for each in done], "seconds": seconds}
        document |= {"slim": made.json()} if made else {}
        print(json.dumps(document | {"bytes_read": client.bytes_read}, indent=1))
    elif not words.quiet:
        _report(done, made, progress)
    options.access.close()
    return 0


def _slim(
    words: argparse.Namespace, to: str, release: str, base_registry: str, progress: Progress
) -> Result:
    """Make the slim image and push it; the base is read where it is now, and mounted from there.

    Beside it goes what is known of the full image's layers, for who makes another one of it.
    """
    from assembler.extract import extract
    from assembler.reference import ImageName

    words.mirror.insert(0, f"{base_registry}={to}")
    options = shared.options(words, progress)
    name = f"{to}/{options.default_tag(release)}"
    caches = () if words.no_cache else (ImageName.parse(f"{to}/{CACHE}", default_tag=None),)
    return extract(replace(options, release=release, push=(name,), cache_to=caches), progress)


def _report(done: list[Copied], made: Result | None, progress: Progress) -> None:
    from assembler.progress import size

    for each in done:
        counts = ", ".join(f"{number} {how}" for how, number in sorted(each.blobs.items()))
        progress.say(f"{each.target}  {each.digest}")
        progress.say(f"  blobs: {counts} ({size(each.bytes)})")
    if made is not None:
        progress.say(f"{', '.join(made.pushed)}  {made.finished.image.digest}")
    words = [f"--mirror {each.origin.registry}={_prefix(each)}" for each in done]
    progress.say(f"read it with: {' '.join(dict.fromkeys(words))}")
    progress.say(f"took {progress.seconds:.1f} s")


def _prefix(copied: Copied) -> str:
    there = f"{copied.target.registry}/{copied.target.repository}"
    return there.removesuffix(f"/{copied.origin.repository}")
