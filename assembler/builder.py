"""`--builder engine`: the filled-in Dockerfile.final carried out by `docker build`.

For people who add RUN lines of their own; it takes a Docker Engine, and longer than `direct`.
The Engine's own builder (the classic one) is asked through the SDK, which speaks no BuildKit.
"""

from __future__ import annotations

import io
import re
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
    image: Image, base: BlobSource, dockerfile: str, context: dict[str, LayerBlob], scratch: Path
) -> Image:
    """Return what the Engine makes of the Dockerfile, with the annotations and artifacts of
    `image`. context: layers by the names that the Dockerfile calls them. Raises DestinationError.

    The Engine keeps nothing of it: what becomes of the image is its destination's matter.
    """
    bottom = Image(base.config, base.layers, image.platform)
    archive = _context(dockerfile, context, scratch / "context.tar")
    with _swept() as ids:
        EngineDestination().deliver(bottom, ())
        ids += [bottom.id, bottom.digest]
        with closing(connect()) as client, engine_errors("docker build"), archive.open("rb") as f:
            answers = client.build(
                fileobj=f, custom_context=True, encoding=None, decode=True, rm=True, forcerm=True,
                buildargs={"BASE": bottom.id}, timeout=LONG, pull=False,
                platform=str(image.platform) if str(image.platform) != _native(client) else None,
            )  # fmt: skip
            built = _follow(answers, ids)
        archive.unlink()
        reference = Reference.parse(f"docker-daemon:{built}")
        with closing(open_engine(reference, image.platform)) as source:
            made = BlobSource(source, scratch / "built")
            return replace(image, config=made.config, layers=made.layers)


@contextmanager
def _swept() -> Iterator[list[str]]:
    """Yield a list for ids of images that come into being, which the Engine loses at the end;
    those that it had before stay, and any that has got a name.
    """
    ids: list[str] = []
    with closing(connect()) as client, engine_errors("looking at the Engine's images"):
        before = set(client.images(all=True, quiet=True))
    try:
        yield ids
    finally:
        with interrupts.held(), suppress(Exception), closing(connect()) as client:
            # The last first: an image that others stand on is not removed.
            for each in reversed(ids):
                _remove(client, each, before)


def _remove(client: Any, image: str, before: set[str]) -> None:
    """Remove an image that is not among `before`, if it is there, has no name and is not in use."""
    import docker

    with suppress(docker.errors.APIError):
        found = client.inspect_image(image)
        if found["Id"] not in before and not (found.get("RepoTags") or found.get("RepoDigests")):
            # Or it takes what it stands on with it, whoever had that.
            client.remove_image(found["Id"], noprune=True)


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


def _follow(answers: Iterable[dict[str, Any]], ids: list[str]) -> str:
    """Read the builder's answers to the end and return the image's id.

    ids: gets that of each step's image, which stays when a later one fails.
    """
    built = ""
    for answer in answers:
        ids += re.findall(r"^ ---> ([0-9a-f]{12,})$", str(answer.get("stream", "")), re.MULTILINE)
        if "error" in answer:
            raise DestinationError(f"docker build: {str(answer['error']).strip()}")
        built = (answer.get("aux") or {}).get("ID", built)
    if not built:
        raise DestinationError("docker build ended without an image: does the Engine work?")
    return built
