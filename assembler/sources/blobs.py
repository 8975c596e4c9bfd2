"""An image whose layers lie on disk as verified blobs: what `copy_layers` of any source leaves."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from pathlib import Path
from typing import BinaryIO, cast

from assembler.caching.cache import Cache
from assembler.oci import Descriptor, LayerBlob
from assembler.parallel import Threads
from assembler.seeking import spans
from assembler.sources import Source, T
from assembler.streams import LayerStream, Part


class BlobSource:
    """A copy on disk of another source, with the same config."""

    def __init__(self, source: Source, folder: Path, cache: Cache | None = None) -> None:
        """Copy all layers of `source` into `folder`, or link them out of `cache`."""
        cache = cache or Cache(None, print)
        named = [digest for digest in source.digests if digest]
        for digest in named:
            if not (folder / "sha256" / digest[7:]).exists():
                cache.blob(digest, folder / "sha256")
        descriptors = source.copy_layers(folder)
        for digest in named:
            cache.add_blob(digest, folder / "sha256" / digest[7:])
        self.reference = source.reference
        self.digest = source.digest
        self.config = source.config
        self.diff_ids = source.diff_ids
        self.sizes = tuple(descriptor.size for descriptor in descriptors)
        self.digests: tuple[str | None, ...] = tuple(each.digest for each in descriptors)
        self.layers = tuple(
            LayerBlob(diff_id, descriptor, folder / "sha256" / descriptor.digest[7:])
            for diff_id, descriptor in zip(source.diff_ids, descriptors, strict=True)
        )

    def read(self, indices: Collection[int], visit: Callable[[LayerStream], T]) -> dict[int, T]:
        """As `Source.read`; one layer after the other, for a base is small."""
        found: dict[int, T] = {}
        for index in indices:
            layer = self.layers[index]
            what = f"layer {index + 1} of {self.reference}"
            with layer.open() as raw:
                stream = LayerStream(
                    raw, what, digest=layer.descriptor.digest, diff_id=layer.diff_id
                )
                found[index] = visit(stream)
                stream.finish()
        return found

    def copy_layers(self, folder: Path) -> tuple[Descriptor, ...]:
        """As `Source.copy_layers`; the blobs are hard links where that works."""
        (folder / "sha256").mkdir(parents=True, exist_ok=True)
        for layer in self.layers:
            target = folder / "sha256" / layer.descriptor.digest[7:]
            if layer.path is not None and not target.exists():
                target.hardlink_to(layer.path)
        return tuple(layer.descriptor for layer in self.layers)

    def read_spans(
        self, parts: Sequence[tuple[int, int, int]], visit: Callable[[int, BinaryIO], T]
    ) -> list[T]:
        """Hand parts of layers' blobs to `visit`; see spans.Ranged."""

        def one(at: int) -> T:
            number, start, end = parts[at]
            with self.layers[number].open() as file:
                file.seek(start)
                return visit(at, cast(BinaryIO, Part(file, end - start)))

        with Threads(spans.WORKERS, "span") as pool:
            return list(pool.map(one, range(len(parts))))

    def close(self) -> None:
        """Nothing is held open."""
