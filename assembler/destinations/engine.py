"""The result straight into the Engine, with no archive on disk.

What is sent is a `docker load` archive, made while it is sent. Three things make it fast in the
classic store: layers are inflated here, for isal is several times faster than the Engine's
gzip; layers that the Engine has are left out; an image that it has is only tagged. Tags move
last, when the whole image is there.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import closing, suppress
from typing import Any

from assembler.destinations import Image
from assembler.destinations.contents import (
    Content,
    archive,
    docker_manifest,
    names_of,
    tar,
)
from assembler.engine import LONG, EngineError, connect, engine_errors, uses_containerd
from assembler.oci import LayerBlob
from assembler.streams import CHUNK, GZIP, ZSTD, InflatingReader

# Seconds that an Engine gets to finish what it was sent whole, before it is taken back.
_WITHDRAW = 10.0


class _Refused(EngineError):
    """The Engine read the archive and would not have it."""


class _WrongSize(Exception):
    """A gzip layer is not as long as its last bytes say: it has several members."""


class EngineDestination:
    """The Engine of this machine or DOCKER_HOST; EngineError where none answers.

    on_bytes: told the number of bytes of each piece that was sent. Artifacts stay behind: an
    Engine has no place for them.
    """

    def __init__(self, on_bytes: Callable[[int], None] | None = None) -> None:
        connect().close()
        self._on_bytes = on_bytes or (lambda _: None)

    def has(self, image: Image) -> bool:
        """Tell whether the Engine has the image, whatever its tags."""
        with closing(connect()) as client, engine_errors(f"looking for {image.id}"):
            return _find(client, image) is not None

    def deliver(self, image: Image, tags: Sequence[str]) -> None:
        """Load the image and move the tags to it.

        After an error or an interruption the tags are as they were and the image is not there,
        unless it was before.
        """
        names = names_of(tags)
        doing = f"loading {', '.join(name.familiar for name in names) or image.id}"
        with closing(connect()) as client, engine_errors(doing):
            there = _find(client, image)
            before = [(name, _named(client, name.familiar)) for name in names]
            sent = _Sent()
            try:
                made = there or self._loaded(client, image, doing, sent)
                _tag(client, made, names)
            except BaseException:
                # A tag may have moved although its answer never came.
                for name, old in before:
                    with suppress(Exception):
                        if old and _named(client, name.familiar) != old:
                            _tag(client, old, [name])
                if not there:
                    _withdraw(client, image, patient=sent.whole)
                raise

    def _loaded(self, client: Any, image: Image, doing: str, sent: _Sent) -> str:
        self._load(client, image, doing, sent)
        found = _find(client, image)
        if found is None:
            raise EngineError(f"{doing}: the Engine took the archive but has no such image")
        return found

    def _load(self, client: Any, image: Image, doing: str, sent: _Sent) -> None:
        if uses_containerd(client):
            # It keeps the blobs themselves and wants all of them, as they are.
            self._send(client, archive(image, ()), doing, sent)
            return
        have = _layers_there(client, image)
        counted = False
        while True:
            try:
                self._send(client, _classic(image, have, counted), doing, sent)
                return
            except _WrongSize:
                counted = True
            except _Refused:
                # Somebody may have removed an image whose layers were counted on.
                if not have:
                    raise
                have = 0

    def _send(self, client: Any, files: dict[str, Content], doing: str, sent: _Sent) -> None:
        sent.whole = False

        def body() -> Iterator[bytes]:
            for piece in tar(files):
                yield piece
                self._on_bytes(len(piece))
            sent.whole = True

        response = client.post(
            f"{client.base_url}/v{client.api_version}/images/load",
            params={"quiet": "1"},
            data=body(),
            headers={"Content-Type": "application/x-tar"},
            timeout=LONG,
        )
        sent.whole = False  # It has answered: nothing more will come of it.
        with closing(response):
            for message in _messages(response.text):
                problem = message.get("error") or (not response.ok and message.get("message"))
                if problem:
                    raise _Refused(f"{doing}: the Engine says: {problem}")
            if not response.ok:
                raise _Refused(f"{doing}: the Engine answers with status {response.status_code}")


class _Sent:
    """Whether the Engine has all bytes and no answer was read yet: it may finish without us."""

    whole = False


def _find(client: Any, image: Image) -> str | None:
    """Return the Engine's id for the image: of its config, or of its manifest (containerd)."""
    return _named(client, image.id) or _named(client, image.digest)


def _named(client: Any, name: str) -> str | None:
    """Return the id of the image of that name, or None."""
    import docker

    with suppress(docker.errors.NotFound):
        return str(client.inspect_image(name)["Id"])
    return None


def _tag(client: Any, image_id: str, names: Iterable[Any]) -> None:
    for name in names:
        repository = name.familiar.removesuffix(f":{name.tag}")
        client.tag(image_id, repository, name.tag, force=True)


def _layers_there(client: Any, image: Image) -> int:
    """Return how many layers, from the bottom, an image in the Engine has in common with this.

    The classic store never opens the file of a layer that it has on the same layers beneath
    (moby image/tarexport/load.go asks by ChainID first), so that file need not be sent.
    """
    import docker

    wanted = [layer.diff_id for layer in image.layers]
    best = 0
    for each in client.images(all=True):
        with suppress(docker.errors.NotFound):
            theirs = client.inspect_image(each["Id"])["RootFS"].get("Layers") or []
            pairs = zip(wanted, theirs, strict=False)
            common = next((n for n, (a, b) in enumerate(pairs) if a != b), None)
            best = max(best, min(len(wanted), len(theirs)) if common is None else common)
    return best


def _classic(image: Image, have: int, counted: bool) -> dict[str, Content]:
    """Return the files of an archive for the classic store, without the lowest `have` layers.

    counted: whether to count the bytes of a layer by inflating it, instead of believing gzip.
    """
    config = f"{image.id.removeprefix('sha256:')}.json"
    paths = [f"{layer.diff_id.removeprefix('sha256:')}/layer.tar" for layer in image.layers]
    files: dict[str, Content] = {
        "manifest.json": docker_manifest(config, (), paths),
        config: image.config,
    }
    for path, layer in list(zip(paths, image.layers, strict=True))[have:]:
        size = _plain_size(layer, counted)
        files[path] = (size, _plain(layer, size))
    return files


def _plain_size(layer: LayerBlob, counted: bool) -> int:
    """Return the bytes of the uncompressed layer.

    The last four bytes of a gzip file are its length, modulo 4 GiB and for its last member
    only (RFC 1952, ISIZE): right for nearly every layer, and `_plain` tells when it is not.
    """
    if layer.make is not None:  # as a tar: see assembly.write_layers
        return layer.descriptor.size
    with layer.open() as file:
        size = file.seek(0, 2)
        file.seek(0)
        head = file.read(4)
        if not head.startswith((GZIP, *ZSTD)):
            return size
        if head.startswith(GZIP) and not counted:
            file.seek(-4, 2)
            return int.from_bytes(file.read(4), "little")
        file.seek(0)
        stream = InflatingReader(file, f"layer {layer.descriptor.digest}")
        return sum(map(len, iter(lambda: stream.read(CHUNK), b"")))


def _plain(layer: LayerBlob, size: int) -> Iterator[bytes]:
    count = 0
    with layer.open() as file:
        stream = InflatingReader(file, f"layer {layer.descriptor.digest}")
        while data := stream.read(CHUNK):
            count += len(data)
            if count > size:
                raise _WrongSize
            yield data
    if count != size:
        raise _WrongSize


def _withdraw(client: Any, image: Image, *, patient: bool) -> None:
    """Take back an image that was not wanted in the end, if the Engine has it or makes it yet."""
    deadline = time.monotonic() + (_WITHDRAW if patient else 0)
    with suppress(Exception):
        while True:
            there = _find(client, image)
            if there:
                client.remove_image(there, force=True)
            if there or time.monotonic() >= deadline:
                return
            time.sleep(0.2)


def _messages(text: str) -> Iterator[dict[str, Any]]:
    """Yield the JSON objects of the Engine's answer, one after the other with or without lines."""
    decoder, text = json.JSONDecoder(), text.strip()
    while text:
        try:
            message, end = decoder.raw_decode(text)
        except ValueError:
            yield {"message": text}
            return
        if isinstance(message, dict):
            yield message
        text = text[end:].lstrip()
