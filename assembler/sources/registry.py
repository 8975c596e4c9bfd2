"""An image in a registry, read over the network without any Docker."""

from __future__ import annotations

import itertools
import os
import threading
from collections.abc import Callable, Collection, Iterator
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import contextmanager
from pathlib import Path
from typing import IO, BinaryIO, TypeVar, cast

from assembler import oci
from assembler.download import BlobReader
from assembler.errors import AssemblerError, SourceError
from assembler.manifests import RemoteManifest
from assembler.reference import ImageName
from assembler.registry import RegistryClient
from assembler.streams import GZIP, ZSTD, LayerStream

T = TypeVar("T")

WORKERS = 3  # layers at a time, as docker pull has it (max-concurrent-downloads)

_serial = itertools.count()


class RegistrySource:
    """Implements `sources.Source`. The client is shared, and not closed with the source.

    on_bytes: called from several threads with a layer's index and the bytes of it that came;
    may be set at any time. manifest: of the platform chosen, verified. index_digest: of the
    index that it was chosen from, or None.
    """

    def __init__(
        self,
        name: ImageName,
        platform: oci.Platform,
        client: RegistryClient,
        *,
        workers: int = WORKERS,
        on_bytes: Callable[[int, int], object] | None = None,
    ) -> None:
        self._name, self._client, self._workers = name, client, workers
        self.on_bytes = on_bytes
        self._reading: set[threading.Event] = set()
        self.reference = str(name)
        top = client.get_manifest(name)
        found = self._resolve(top, platform)
        self.index_digest = top.digest if top.is_index else None
        self.manifest = oci.Manifest.parse(found.raw, self.reference)
        self.digest: str | None = found.digest
        self.config = client.get_blob(name, self.manifest.config, f"the config of {self.reference}")
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

    def _resolve(self, found: RemoteManifest, platform: oci.Platform) -> RemoteManifest:
        for _ in range(2):  # an index may hold an index (image-spec, image-index.md), once
            if not found.is_index:
                break
            entry = oci.choose_platform(found.raw, platform, self.reference)
            found = self._client.get_manifest(self._name, entry.digest)
            if entry.size != len(found.raw):
                raise SourceError(
                    f"the index of {self.reference} gives {entry.digest} {entry.size} bytes, "
                    f"it has {len(found.raw)}"
                )
        return found

    def read(self, indices: Collection[int], visit: Callable[[BinaryIO], T]) -> dict[int, T]:
        """Hand layers to `visit`; see Source.read. They are started in the order given."""

        def one(index: int, cancelled: threading.Event) -> T:
            with self._open(index, cancelled) as stream:
                # Returned only when `_open` has drained the stream, and every byte agreed.
                return visit(cast(BinaryIO, stream))

        return self._parallel(list(dict.fromkeys(indices)), one)

    def copy_layers(self, directory: Path) -> tuple[oci.Descriptor, ...]:
        """Write all layers into `directory`/sha256; see Source.copy_layers."""
        folder = directory / "sha256"
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise _unwritable(folder, error) from None
        digests = [layer.digest for layer in self.manifest.layers]
        # Images repeat layers (the empty one above all); one copy of each is enough.
        missing = [
            index
            for index, digest in enumerate(digests)
            if digests.index(digest) == index and not (folder / digest[7:]).exists()
        ]

        def one(index: int, cancelled: threading.Event) -> None:
            self._copy(index, folder / digests[index][7:], cancelled)

        self._parallel(missing, one)
        return tuple(
            oci.Descriptor(_layer_type(folder / layer.digest[7:]), layer.digest, layer.size)
            for layer in self.manifest.layers
        )

    def close(self) -> None:
        """End whatever still reads."""
        for cancelled in list(self._reading):
            cancelled.set()

    # -- one layer --------------------------------------------------------------------------

    def _what(self, index: int) -> str:
        layer = self.manifest.layers[index]
        return f"layer {index + 1} of {self.reference} ({layer.digest[:19]}…)"

    @contextmanager
    def _open(
        self, index: int, cancelled: threading.Event, keep: IO[bytes] | None = None
    ) -> Iterator[LayerStream]:
        """Yield a layer; `keep` gets its bytes as they are stored. Drained when all went well."""
        layer, what = self.manifest.layers[index], self._what(index)

        def count(number: int) -> None:
            if self.on_bytes is not None:
                self.on_bytes(index, number)

        with self._client.open_blob(
            self._name, layer, what, cancelled=cancelled, on_bytes=count
        ) as blob:
            stream = LayerStream(
                cast(BinaryIO, _Copying(blob, keep) if keep else blob),
                what,
                digest=layer.digest,
                size=layer.size,
                diff_id=self.diff_ids[index],
            )
            yield stream
            stream.finish()

    def _copy(self, index: int, path: Path, cancelled: threading.Event) -> None:
        # The name says that the content is verified, so it is given last.
        temporary = path.with_name(f".{path.name}.{os.getpid()}.{next(_serial)}")
        try:
            with temporary.open("xb") as file:
                with self._open(index, cancelled, file):
                    pass  # leaving it drains it
                file.flush()
                os.fsync(file.fileno())
            temporary.replace(path)
        except OSError as error:
            raise _unwritable(path, error) from None
        finally:
            temporary.unlink(missing_ok=True)

    # -- threads ----------------------------------------------------------------------------

    def _parallel(
        self, indices: list[int], work: Callable[[int, threading.Event], T]
    ) -> dict[int, T]:
        """Do `work` for each index; the first failure, or Ctrl-C, ends the others at once."""
        results: dict[int, T] = {}
        if not indices:
            return results
        cancelled = threading.Event()
        self._reading.add(cancelled)
        with ThreadPoolExecutor(min(self._workers, len(indices)), "layer") as pool:
            futures = {pool.submit(work, index, cancelled): index for index in indices}
            try:
                for future in as_completed(futures):
                    results[futures[future]] = future.result()
            except BaseException:
                cancelled.set()
                for future in futures:
                    future.cancel()
                # A thread that waits for a byte would wait for its time-out, and we for it.
                self._client.interrupt()
                raise
            finally:
                self._reading.discard(cancelled)
        return results


class _Copying:
    """A reader that writes what it reads to a file too."""

    def __init__(self, raw: BlobReader, keep: IO[bytes]) -> None:
        self._raw, self._keep = raw, keep

    def read(self, size: int = -1) -> bytes:
        data = self._raw.read(size)
        self._keep.write(data)
        return data


def _layer_type(path: Path) -> str:
    """Return the OCI media type of a layer by its first bytes (Docker's types name gzip alone)."""
    with path.open("rb") as file:
        magic = file.read(4)
    if magic.startswith(GZIP):
        return f"{oci.OCI_LAYER}+gzip"
    return f"{oci.OCI_LAYER}+zstd" if magic.startswith(ZSTD) else oci.OCI_LAYER


def _unwritable(path: Path, error: OSError) -> AssemblerError:
    return AssemblerError(f"{path} cannot be written: {error.strerror or error}")
