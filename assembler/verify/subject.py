"""The image that is meant: where it is read, and how the Engine comes to hold it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path

from assembler import interrupts, oci
from assembler.destinations import Image
from assembler.engine import EngineError, answers, connect, engine_errors
from assembler.reference import TRANSPORTS, Reference
from assembler.sources import Source
from assembler.sources.blobs import BlobSource
from assembler.sources.engine import EngineSource
from assembler.sources.opening import at_path


def parse(text: str) -> Reference:
    """Return what `text` names: of a file or folder its path is enough, and a name without a
    transport is the Engine's image where it has one, else a registry's. Raises UsageError.
    """
    if (file := at_path(text)) is not None:
        return file
    reference = Reference.parse(text)
    if reference.name is None or text.partition(":")[0] in TRANSPORTS or not answers():
        return reference
    try:
        with closing(connect()) as client, engine_errors(f"looking for {text}"):
            client.inspect_image(reference.name.familiar)
    except EngineError:
        return reference
    return Reference("docker-daemon", reference.name)


@contextmanager
def held(source: Source, platform: oci.Platform, *, keep: bool = False) -> Iterator[str]:
    """Yield the id by which the Engine knows the image; one that it had not is taken away again,
    or only when the block fails (keep).

    source: an image of the Engine, or blobs on disk. Raises EngineError.
    """
    if isinstance(source, EngineSource):
        yield source.id
        return
    assert isinstance(source, BlobSource)
    from assembler.destinations.engine import EngineDestination

    image = Image(source.config, source.layers, platform)
    before = _there(image)
    EngineDestination().deliver(image, ())
    made = _there(image)
    try:
        if made is None:
            raise EngineError(f"the Engine took {source.reference}, but has no such image")
        yield made
        before = before or (made if keep else None)
    finally:
        if before is None and made is not None:
            with interrupts.held(), suppress(Exception), closing(connect()) as client:
                client.remove_image(made, force=True)


def _there(image: Image) -> str | None:
    import docker

    with closing(connect()) as client, engine_errors(f"looking for {image.id}"):
        for name in (image.id, image.digest):
            with suppress(docker.errors.NotFound):
                return str(client.inspect_image(name)["Id"])
    return None


def on_disk(source: Source, scratch: Path, *, starts: bool) -> Source:
    """Return `source` in the form that is read and loaded without reading it twice.

    starts: whether the Engine is to get it.
    """
    if isinstance(source, EngineSource) or not starts:
        return source
    return BlobSource(source, scratch / "blobs")
