"""`--builder engine`: the filled-in Dockerfile.final carried out by `docker build`.

For people who add RUN lines of their own; it takes a Docker Engine, and longer than `direct`.
The Engine's own builder (the classic one) is asked through the SDK, which speaks no BuildKit.
"""

from __future__ import annotations

import io
import tarfile
from collections.abc import Iterable, Iterator
from contextlib import closing, contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

from assembler import interrupts, oci
from assembler.destinations import Image
from assembler.destinations.engine import EngineDestination
from assembler.engine import LONG, connect, engine_errors
from assembler.errors import DestinationError
from assembler.oci import LayerBlob
from assembler.reference import Reference
from assembler.sources.blobs import BlobSource
from assembler.sources.engine import open_engine


def build(
    image: Image,
    base: BlobSource,
    dockerfile: str,
    context: dict[str, LayerBlob],
    scratch: Path,
    *,
    keep: bool,
) -> Image:
    """Return what the Engine makes of the Dockerfile, with the annotations and artifacts of
    `image`. context: layers by the names that the Dockerfile calls them. keep: whether it stays
    in the Engine. Raises DestinationError.
    """
    bottom = Image(base.config, base.layers, image.platform)
    archive = _context(dockerfile, context, scratch / "context.tar")
    with _taken_away() as leftovers:
        EngineDestination().deliver(bottom, ())
        leftovers.append(bottom.id)
        built = _build(image, bottom, archive)
        if not keep:
            leftovers.insert(0, built)
        where = Reference.parse(f"docker-daemon:{built}")
        with closing(open_engine(where, image.platform)) as source:
            made = BlobSource(source, scratch / "built")
        return replace(image, config=made.config, layers=made.layers)


@contextmanager
def _taken_away() -> Iterator[list[str]]:
    """Yield a list; the images that it names in the end go, but for those that were there before.

    What another image is built on stays, as the Engine will have it.
    """
    with closing(connect()) as client, engine_errors("docker build"):
        before = set(client.images(quiet=True, all=True))
    leftovers: list[str] = []
    try:
        yield leftovers
    finally:
        with interrupts.held(), suppress(Exception), closing(connect()) as client:
            for each in leftovers:
                if each not in before:
                    with suppress(Exception):
                        client.remove_image(each)


def _build(image: Image, bottom: Image, archive: Path) -> str:
    """Return the id of what the Engine builds."""
    with closing(connect()) as client, engine_errors("docker build"), archive.open("rb") as file:
        answers = client.build(
            fileobj=file, custom_context=True, encoding=None, decode=True, rm=True, forcerm=True,
            buildargs={"BASE": bottom.id}, timeout=LONG, pull=False,
            platform=str(image.platform) if str(image.platform) != _native(client) else None,
        )  # fmt: skip
        built = _follow(answers)
    archive.unlink()
    return built


def _native(client: Any) -> str:
    found = client.version()
    return str(oci.Platform(found["Os"], found["Arch"]))


def _context(dockerfile: str, files: dict[str, LayerBlob], path: Path) -> Path:
    with tarfile.open(path, "w") as tar:
        info = tarfile.TarInfo("Dockerfile")
        data = dockerfile.encode()
        info.size = len(data)
        tar.addfile(info, io.BytesIO(data))
        for name, layer in files.items():
            info = tarfile.TarInfo(name)
            info.size = layer.descriptor.size
            with layer.open() as content:
                tar.addfile(info, content)
    return path


def _follow(answers: Iterable[dict[str, Any]]) -> str:
    """Read the builder's answers to the end and return the image's id."""
    built = ""
    for answer in answers:
        if "error" in answer:
            raise DestinationError(f"docker build: {str(answer['error']).strip()}")
        built = (answer.get("aux") or {}).get("ID", built)
    if not built:
        raise DestinationError("docker build ended without an image: does the Engine work?")
    return built
