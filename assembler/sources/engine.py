"""`docker-daemon:NAME` or `docker-daemon:sha256:ID`: an image that the Engine here holds.

All layers come in one `docker save` stream, which is read as it passes by: no more than a
piece of it is in memory, and nothing is written. The stream has the layers in the order of
their file names and says only at its end which is which (manifest.json), so a layer is known
by the digest of its bytes, once it has passed: the diff_id. Both kinds of stream are read,
before Docker 25 (`<id>/layer.tar`) and since (`blobs/sha256/<hex>`).
"""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Mapping
from pathlib import Path
from typing import Any

from assembler import oci
from assembler.caching.cache import Cache
from assembler.engine import EngineError, connect, engine_errors
from assembler.errors import SourceError, VerificationError
from assembler.oci import Descriptor, Platform
from assembler.reference import Reference
from assembler.sources import T
from assembler.sources.found import check_platform
from assembler.sources.save_stream import Member, save_stream
from assembler.sources.stored import keep, kept
from assembler.streams import LayerStream

# What image-spec config.md has of `config`; the Engine adds fields of containers.
_CONFIG_KEYS = (
    "User",
    "ExposedPorts",
    "Env",
    "Entrypoint",
    "Cmd",
    "Volumes",
    "WorkingDir",
    "Labels",
    "StopSignal",
    "ArgsEscaped",
    "Healthcheck",
    "OnBuild",
    "Shell",
)

OnBytes = Callable[[int], None]


def open_engine(
    reference: Reference, platform: Platform, on_bytes: OnBytes | None = None
) -> EngineSource:
    """Return the image that `reference` names in the Engine.

    on_bytes: told the number of bytes of each piece of the stream.
    Raises EngineError where no Engine answers, SourceError where it has no such image.
    """
    import docker

    name = reference.name.familiar if reference.name else reference.within
    try:
        client = connect()
    except EngineError as error:
        raise EngineError(
            f"{reference}: {error}; or name a registry's image or a file as source"
        ) from None
    try:
        with engine_errors(f"looking for {reference}"):
            try:
                inspected = client.inspect_image(name)
            except docker.errors.NotFound:
                raise SourceError(
                    f"{reference}: the Docker Engine has no such image: docker pull {name}, "
                    "or leave out docker-daemon: to read it from its registry"
                ) from None
        config = inspected_config(inspected)
        check_platform(json.loads(config), platform, str(reference))
        return EngineSource(reference, client, str(inspected["Id"]), config, on_bytes)
    except BaseException:
        client.close()
        raise


def inspected_config(inspected: Mapping[str, Any]) -> bytes:
    """Return the image config as far as `docker image inspect` tells it.

    What containers are made from is the same as in the exact config, and so are `created`
    (RFC 3339 with nanoseconds, as the Engine's own encoder writes it) and the diff_ids. Missing:
    history, keys unknown to the Engine, and the difference between empty and absent.
    """
    settings = inspected.get("Config") or {}
    document = {
        "created": inspected.get("Created"),
        "author": inspected.get("Author"),
        "architecture": inspected.get("Architecture"),
        "os": inspected.get("Os"),
        "variant": inspected.get("Variant"),
        "config": {key: settings[key] for key in _CONFIG_KEYS if settings.get(key)},
        "rootfs": {
            "type": "layers",
            "diff_ids": list((inspected.get("RootFS") or {}).get("Layers") or ()),
        },
    }
    return oci.canonical({key: value for key, value in document.items() if value})


class EngineSource:
    """A `Source` on the Engine's image of this id.

    config: from inspect at first, and the exact bytes as soon as one stream was read (by `read`
        or `copy_layers`): only the stream has them, somewhere in it. In the classic store their
        digest is the image id.
    """

    def __init__(
        self,
        reference: Reference,
        client: Any,
        image_id: str,
        config: bytes,
        on_bytes: OnBytes | None,
    ) -> None:
        self.reference = str(reference)
        self.digest: str | None = None
        self.config = config
        self.id = image_id
        self.diff_ids = oci.diff_ids(json.loads(config), self.reference)
        self.sizes = (0,) * len(self.diff_ids)
        self.digests: tuple[str | None, ...] = (None,) * len(self.diff_ids)
        self._client = client
        self._on_bytes = on_bytes or (lambda _: None)
        self._cache = Cache(None, print)
        # diff_id by path in the stream: from the first stream on, others need not be looked at.
        self._known: dict[str, str] = {}

    def read(self, indices: Collection[int], visit: Callable[[LayerStream], T]) -> dict[int, T]:
        """As `Source.read`, one layer after the other.

        In the first stream of an Engine before 25, `visit` sees layers beside those asked for
        as well, since nobody knows yet which they are; what it returns for them is dropped.
        """
        wanted = {self.diff_ids[index] for index in indices}
        found: dict[str, T] = {}

        def take(layer: Member, diff_id: str | None) -> str | None:
            if diff_id is not None and diff_id not in wanted:
                return diff_id
            raw: Any = layer
            stream = LayerStream(raw, self._what(layer), digest=layer.digest, diff_id=diff_id)
            result = visit(stream)
            stream.finish()
            found[stream.actual_diff_id] = result
            return stream.actual_diff_id

        if wanted:
            self._pass(take)
        self._complete(wanted, found)
        return {index: found[self.diff_ids[index]] for index in indices}

    def copy_layers(self, directory: Path) -> tuple[Descriptor, ...]:
        """As `Source.copy_layers`: uncompressed, or as the containerd store has them.

        `config` is exact afterwards.
        """
        copied: dict[str, Descriptor] = {}

        def take(layer: Member, diff_id: str | None) -> str | None:
            if diff_id is not None and diff_id not in self.diff_ids:
                return diff_id
            # Without a name that is a digest it is of the classic store, where blobs are tars.
            there = layer.digest or diff_id
            descriptor = kept(directory, there, layer.head) if there and diff_id else None
            if descriptor is None:
                raw: Any = layer
                descriptor, diff_id = keep(
                    raw, self._what(layer), directory, digest=layer.digest, diff_id=diff_id
                )
            copied[str(diff_id)] = descriptor
            return diff_id

        self._pass(take)
        self._complete(set(self.diff_ids), copied)
        return tuple(copied[diff_id] for diff_id in self.diff_ids)

    def remember_in(self, cache: Cache) -> None:
        """Take the exact config from `cache`, where an earlier run has put it; else put it there.

        So the config, and what is said of the source by it, is the same with a warm cache as
        with a cold one, although no stream is read then.
        """
        self._cache = cache
        known = cache.get(self._remembered)
        if known is not None and self._is_config(known):
            self.config = known

    @property
    def _remembered(self) -> str:
        return f"configs/{self.id.removeprefix('sha256:')}"

    def close(self) -> None:
        """Give back the connection."""
        self._client.close()

    def _what(self, layer: Member) -> str:
        return f"layer {layer.path} of {self.reference}"

    def _complete(self, wanted: set[str], found: Mapping[str, object]) -> None:
        missing = sorted(wanted - found.keys())
        if missing:
            raise VerificationError(
                f"{self.reference}: the Engine sent no layer with diff_id {', '.join(missing)}; "
                "look into its log, then run this again"
            )

    def _pass(self, take: Callable[[Member, str | None], str | None]) -> None:
        """Read one stream: hand its layers to `take`, and keep the exact config.

        `take` gets the layer's diff_id where it is known, and returns it where it found out.
        """
        documents: dict[str, bytes] = {}
        with save_stream(self._client, self.id, self.reference, self._on_bytes) as members:
            for member in members:
                if not member.is_layer:
                    data = member.read()
                    documents[oci.sha256(data)] = data
                    continue
                # Since Docker 25 the classic store's paths are diff_ids.
                named = member.digest if member.digest in self.diff_ids else None
                diff_id = take(member, self._known.get(member.path, named))
                if diff_id is not None:
                    self._known[member.path] = diff_id
        self._find_config(documents)

    def _find_config(self, documents: Mapping[str, bytes]) -> None:
        exact = documents.get(self.id)
        if exact is None or b'"rootfs"' not in exact:
            # The containerd store's id is a manifest's digest.
            exact = next((d for d in documents.values() if self._is_config(d)), None)
        if exact is None or not self._is_config(exact):
            raise VerificationError(f"{self.reference}: the Engine sent no config for {self.id}")
        self.config = exact
        self._cache.put(self._remembered, exact)

    def _is_config(self, data: bytes) -> bool:
        try:
            document = json.loads(data)
            return tuple(document["rootfs"]["diff_ids"]) == self.diff_ids
        except (ValueError, KeyError, TypeError):
            return False
