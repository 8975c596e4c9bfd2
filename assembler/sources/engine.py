"""`docker-daemon:NAME` or `docker-daemon:sha256:ID`: an image that the Engine here holds.

All layers come in one `docker save` stream, which is read as it passes by: no more than a
piece of it is in memory, and nothing is written. The stream has the layers in the order of
their file names and says only at its end which is which (manifest.json), so a layer is known
by the digest of its bytes, once it has passed: the diff_id. Both kinds of stream are read,
before Docker 25 (`<id>/layer.tar`) and since (`blobs/sha256/<hex>`).
"""

from __future__ import annotations

import io
import json
import re
import tarfile
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO
from urllib.parse import quote

from assembler import oci
from assembler.engine import LONG, connect, engine_errors
from assembler.errors import SourceError, VerificationError
from assembler.oci import Descriptor, Platform
from assembler.reference import Reference
from assembler.sources import T
from assembler.sources.archive_images import check_platform
from assembler.sources.members import DOCUMENT
from assembler.sources.stored import compression, keep, kept
from assembler.streams import CHUNK, LayerStream

_BLOB = re.compile(r"blobs/sha256/([0-9a-f]{64})")
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
    client = connect()
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

    config: from inspect at first, and the exact bytes as soon as one stream was read (by
        `read`, `copy_layers` or `exact_config`): only the stream has them, somewhere in it.
        In the classic store their digest is the image id.
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
        self._client = client
        self._on_bytes = on_bytes or (lambda _: None)
        self._exact = False
        # diff_id by path in the stream: from the first stream on, others need not be looked at.
        self._known: dict[str, str] = {}

    def read(self, indices: Collection[int], visit: Callable[[BinaryIO], T]) -> dict[int, T]:
        """As `Source.read`, one layer after the other.

        In the first stream of an Engine before 25, `visit` sees layers beside those asked for
        as well, since nobody knows yet which they are; what it returns for them is dropped.
        """
        wanted = {self.diff_ids[index] for index in indices}
        found: dict[str, T] = {}

        def take(path: str, raw: BinaryIO) -> None:
            diff_id = self._known.get(path)
            if diff_id is not None and diff_id not in wanted:
                return
            stream = LayerStream(raw, self._what(path), digest=_named(path), diff_id=diff_id)
            result = visit(stream)  # type: ignore[arg-type]
            stream.finish()
            self._known[path] = stream.actual_diff_id
            found[stream.actual_diff_id] = result

        if wanted:
            self._pass(take)
        self._complete(wanted, found)
        return {index: found[self.diff_ids[index]] for index in indices}

    def copy_layers(self, directory: Path) -> tuple[Descriptor, ...]:
        """As `Source.copy_layers`: uncompressed, or as the containerd store has them.

        `config` is exact afterwards.
        """
        copied: dict[str, Descriptor] = {}

        def take(path: str, raw: BinaryIO) -> None:
            diff_id = self._known.get(path)
            if diff_id is not None and diff_id not in self.diff_ids:
                return
            head = raw.read(4)
            there = _named(path) or diff_id
            descriptor = kept(directory, there, head) if there and diff_id else None
            if descriptor is None:
                whole: Any = _Joined(head, raw)
                descriptor, diff_id = keep(
                    whole, self._what(path), directory, digest=_named(path), diff_id=diff_id
                )
            assert diff_id is not None
            self._known[path] = diff_id
            copied[diff_id] = descriptor

        self._pass(take)
        self._complete(set(self.diff_ids), copied)
        return tuple(copied[diff_id] for diff_id in self.diff_ids)

    def exact_config(self) -> bytes:
        """Return the exact config bytes, for the price of a whole stream when none was read."""
        if not self._exact:
            self._pass(lambda _path, _raw: None)
        return self.config

    def close(self) -> None:
        """Give back the connection."""
        self._client.close()

    def _what(self, path: str) -> str:
        return f"layer {path} of {self.reference}"

    def _complete(self, wanted: set[str], found: Mapping[str, object]) -> None:
        missing = sorted(wanted - found.keys())
        if missing:
            raise VerificationError(
                f"{self.reference}: the Engine sent no layer with diff_id {', '.join(missing)}; "
                "look into its log, then run this again"
            )

    def _pass(self, take: Callable[[str, BinaryIO], None]) -> None:
        """Read one stream: hand its layers to `take`, and keep the exact config."""
        configs: dict[str, bytes] = {}
        with self._stream() as stream:
            tar = self._guarded(lambda: _sequential(stream))
            while (member := self._guarded(tar.next)) is not None:
                if not member.isreg():
                    continue
                raw = _Member(tar.extractfile(member), self._cut)
                if _is_layer(member, raw):
                    hexadecimal = _named(member.name)
                    if hexadecimal in self.diff_ids:
                        self._known.setdefault(member.name, str(hexadecimal))
                    take(member.name, raw)  # type: ignore[arg-type]
                elif member.size <= DOCUMENT:
                    data = raw.read(member.size)
                    configs[oci.sha256(data)] = data
            while stream.read(CHUNK):
                pass
        self._find_config(configs)

    def _find_config(self, documents: Mapping[str, bytes]) -> None:
        exact = documents.get(self.id)
        if exact is None or b'"rootfs"' not in exact:
            # The containerd store's id is a manifest's digest.
            exact = next((d for d in documents.values() if self._is_config(d)), None)
        if exact is None or not self._is_config(exact):
            raise VerificationError(f"{self.reference}: the Engine sent no config for {self.id}")
        self.config, self._exact = exact, True

    def _is_config(self, data: bytes) -> bool:
        try:
            document = json.loads(data)
            return tuple(document["rootfs"]["diff_ids"]) == self.diff_ids
        except (ValueError, KeyError, TypeError):
            return False

    @contextmanager
    def _stream(self) -> Iterator[_SaveStream]:
        doing = f"reading {self.reference}"
        url = f"{self._client.base_url}/v{self._client.api_version}/images/{quote(self.id)}/get"
        with engine_errors(doing):
            response = self._client.get(
                url, stream=True, timeout=LONG, headers={"Accept-Encoding": "identity"}
            )
        try:
            if response.status_code != 200:
                with engine_errors(doing):
                    text = response.json().get("message")
                raise SourceError(f"{doing}: the Engine says: {text}")
            yield _SaveStream(response, doing, self._on_bytes)
        finally:
            response.close()

    def _guarded(self, step: Callable[[], T]) -> T:
        try:
            return step()
        except tarfile.ReadError:
            raise self._cut() from None

    def _cut(self) -> SourceError:
        return SourceError(
            f"reading {self.reference}: the Engine ended its stream in the middle; "
            "look into its log, then run this again"
        )


class _SaveStream:
    """The body of the Engine's answer."""

    def __init__(self, response: Any, doing: str, on_bytes: OnBytes) -> None:
        self._raw, self._doing, self._on_bytes = response.raw, doing, on_bytes

    def read(self, size: int) -> bytes:
        with engine_errors(self._doing):
            data: bytes = self._raw.read(size, decode_content=False)
        self._on_bytes(len(data))
        return data


def _sequential(stream: Any) -> tarfile.TarFile:
    return tarfile.open(fileobj=stream, mode="r|", bufsize=CHUNK)


class _Member(io.RawIOBase):
    """A member of the stream; that it ends early is told as the Engine's fault."""

    def __init__(self, file: Any, cut: Callable[[], SourceError]) -> None:
        self._file, self._cut = file, cut

    def readable(self) -> bool:
        return True

    def peek(self, size: int) -> bytes:
        try:
            return bytes(self._file.peek(size)[:size])
        except tarfile.ReadError:
            raise self._cut() from None

    def read(self, size: int = -1) -> bytes:
        try:
            return bytes(self._file.read(size))
        except tarfile.ReadError:
            raise self._cut() from None


class _Joined:
    """Reads `head`, then what comes after it."""

    def __init__(self, head: bytes, rest: BinaryIO) -> None:
        self._head, self._rest = head, rest

    def read(self, size: int = -1) -> bytes:
        head, self._head = self._head, b""
        return head or self._rest.read(size)


def _named(path: str) -> str | None:
    """The digest that a path names: of the blob as stored."""
    match = _BLOB.fullmatch(path)
    return f"sha256:{match[1]}" if match else None


def _is_layer(member: tarfile.TarInfo, raw: _Member) -> bool:
    if member.name.endswith("/layer.tar"):
        return True
    if not _BLOB.fullmatch(member.name):
        return False
    head = raw.peek(tarfile.BLOCKSIZE)
    # A tar begins with a header, or with the zeros of its end when it is empty.
    return bool(compression(head)) or head[257:262] == b"ustar" or not head.strip(b"\0")
