"""An image in a registry, read over the network without any Docker."""

from __future__ import annotations

import threading
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO, cast

from assembler import oci, parallel
from assembler.caching.cache import Cache
from assembler.errors import OfflineError, SourceError, VerificationError
from assembler.reference import ImageName
from assembler.registries.client import RegistryClient
from assembler.registries.download import BlobReader
from assembler.registries.manifestcache import ManifestCache
from assembler.registries.manifests import RemoteManifest
from assembler.seeking import spans
from assembler.sources import T, stored
from assembler.streams import LayerStream

WORKERS = 3  # layers at a time, as docker pull has it (max-concurrent-downloads)


class RegistrySource:
    """Implements `sources.Source`. The client is shared, and not closed with the source.

    on_bytes: called from several threads with a layer's index and the bytes of it that came;
    may be set at any time. manifest: of the platform chosen, verified. keep_in: a folder that gets
    the blobs that `read` reads, as `copy_layers` would have them. paired: digests of blobs that are
    known to have the diff_ids that the config says, so that `copy_layers` need not inflate them to
    see it.
    """

    def __init__(
        self,
        name: ImageName,
        platform: oci.Platform,
        client: RegistryClient,
        documents: ManifestCache | None = None,
        *,
        workers: int = WORKERS,
        on_bytes: Callable[[int, int], object] | None = None,
    ) -> None:
        self._name, self._client, self._workers = name, client, workers
        self._documents = documents or ManifestCache(client, Cache(None, print))
        self.on_bytes = on_bytes
        self._reading: set[threading.Event] = set()
        self.keep_in: Path | None = None
        self.paired: Collection[str] = ()
        self.reference = str(name)
        top = self._documents.manifest(name)
        found = self._resolve(top, platform)
        self.manifest = oci.Manifest.parse(found.raw, self.reference)
        self.digest: str | None = found.digest
        self.config = self._documents.config(
            name, self.manifest.config, f"the config of {self.reference}"
        )
        config = oci.parse_object(self.config, f"the config of {self.reference}")
        self.diff_ids = oci.diff_ids(config, self.reference)
        if len(self.diff_ids) != len(self.manifest.layers):
            raise SourceError(
                f"{self.reference} has {len(self.manifest.layers)} layers in its manifest, "
                f"but {len(self.diff_ids)} diff_ids in its config"
            )
        if not top.is_index and not platform.accepts(config):
            there = "/".join(str(config.get(key, "?")) for key in ("os", "architecture"))
            raise SourceError(
                f"{self.reference} has no image for {platform}; it is for {there} alone "
                "(choose that with --platform)"
            )
        self.sizes = tuple(layer.size for layer in self.manifest.layers)
        self.digests: tuple[str | None, ...] = tuple(each.digest for each in self.manifest.layers)

    def _resolve(self, found: RemoteManifest, platform: oci.Platform) -> RemoteManifest:
        for _ in range(2):  # an index may hold an index (image-spec, image-index.md), once
            if not found.is_index:
                break
            entry = oci.choose_platform(found.raw, platform, self.reference)
            found = self._documents.manifest(self._name, entry.digest)
            if entry.size != len(found.raw):
                raise SourceError(
                    f"the index of {self.reference} gives {entry.digest} {entry.size} bytes, "
                    f"it has {len(found.raw)}"
                )
        return found

    def read(self, indices: Collection[int], visit: Callable[[LayerStream], T]) -> dict[int, T]:
        """Hand layers to `visit`; see Source.read. They are started in the order given."""

        if self._client.offline:
            numbers = ", ".join(str(index + 1) for index in sorted(indices))
            raise OfflineError(
                f"layer {numbers} of {self.reference} would have to be read for what is asked, but "
                "--offline is set: run this once with a network and the same --cache-dir"
            )

        def one(index: int, cancelled: threading.Event) -> T:
            layer = self.manifest.layers[index]

            def through(raw: BinaryIO) -> T:
                stream = LayerStream(
                    raw,
                    self._what(index),
                    digest=layer.digest,
                    size=layer.size,
                    diff_id=self.diff_ids[index],
                )
                result = visit(stream)
                stream.finish()
                return result

            with self._blob(index, cancelled) as blob, self._named(blob):
                if self.keep_in is None:
                    return through(cast(BinaryIO, blob))
                with stored.copying(cast(BinaryIO, blob), self.keep_in) as tee:
                    result = through(cast(BinaryIO, tee))
                    tee.digest = layer.digest
                return result

        return self._parallel(list(dict.fromkeys(indices)), one)

    def copy_layers(self, directory: Path) -> tuple[oci.Descriptor, ...]:
        """Write all layers into `directory`/sha256; see Source.copy_layers."""
        digests = [layer.digest for layer in self.manifest.layers]

        def there(digest: str) -> Path:
            return directory / "sha256" / digest.removeprefix("sha256:")

        def one(index: int, cancelled: threading.Event) -> None:
            layer = self.manifest.layers[index]
            with self._blob(index, cancelled) as blob, self._named(blob):
                raw, what = cast(BinaryIO, blob), self._what(index)
                if layer.digest in self.paired:
                    stored.keep_blob(raw, what, directory, layer)
                    return
                stored.keep(
                    raw,
                    what,
                    directory,
                    digest=layer.digest,
                    size=layer.size,
                    diff_id=self.diff_ids[index],
                )

        # Images repeat layers (the empty one above all); one copy of each is enough.
        first = {digest: digests.index(digest) for digest in digests}
        self._parallel([i for digest, i in first.items() if not there(digest).exists()], one)
        found: list[oci.Descriptor] = []
        for layer in self.manifest.layers:
            with there(layer.digest).open("rb") as file:
                kind = oci.OCI_LAYER + stored.compression(file.read(4))
            found.append(oci.Descriptor(kind, layer.digest, layer.size))
        return tuple(found)

    def close(self) -> None:
        """End whatever still reads."""
        for cancelled in list(self._reading):
            cancelled.set()

    def read_spans(
        self, parts: Sequence[tuple[int, int, int]], visit: Callable[[int, BinaryIO], T]
    ) -> list[T]:
        """Hand parts of layers' blobs to `visit`, unverified; see spans.Ranged."""

        def one(at: int, cancelled: threading.Event) -> T:
            number, start, end = parts[at]
            with self._blob(number, cancelled, (start, end)) as blob:
                return visit(at, cast(BinaryIO, blob))

        found = self._parallel(list(range(len(parts))), one, workers=spans.WORKERS)
        return list(found.values())

    # -- one layer --------------------------------------------------------------------------

    def _what(self, index: int) -> str:
        layer = self.manifest.layers[index]
        return f"layer {index + 1} of {self.reference} ({layer.digest[:19]}…)"

    def _blob(
        self, index: int, cancelled: threading.Event, span: tuple[int, int] | None = None
    ) -> BlobReader:
        def count(number: int) -> None:
            if self.on_bytes is not None:
                self.on_bytes(index, number)

        return self._client.open_blob(
            self._name,
            self.manifest.layers[index],
            self._what(index),
            cancelled=cancelled,
            on_bytes=count,
            span=span,
        )

    @contextmanager
    def _named(self, blob: BlobReader) -> Iterator[None]:
        """Say of wrong bytes which mirror or storage gave them."""
        try:
            yield
        except VerificationError as error:
            others = [host for host in blob.hosts if host != self._name.registry]
            if not others:
                raise
            raise VerificationError(f"{error} (read from {', '.join(others)})") from None

    # -- threads ----------------------------------------------------------------------------

    def _parallel(
        self,
        indices: list[int],
        work: Callable[[int, threading.Event], T],
        workers: int | None = None,
    ) -> dict[int, T]:
        """Do `work` for each index; the first failure, or Ctrl-C, ends the others at once."""
        cancelled = threading.Event()
        self._reading.add(cancelled)
        try:
            found = parallel.each(
                indices,
                lambda index: work(index, cancelled),
                workers=workers or self._workers,
                cancelled=cancelled,
                interrupt=self._client.interrupt,
            )
        finally:
            self._reading.discard(cancelled)
        return dict(zip(indices, found, strict=True))
