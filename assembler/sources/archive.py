"""`docker-archive:FILE[:name]`, `oci-archive:FILE[:name]`, `oci:DIR[:name]`: images in files.

The file is read in place, by seeking; layers in parallel, each through a handle of its own. A
`docker save` archive has no manifest in the registry's sense, so its `digest` is None.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Collection
from concurrent.futures import FIRST_EXCEPTION, wait
from pathlib import Path
from typing import BinaryIO

from assembler.errors import SourceError
from assembler.oci import Descriptor, Platform
from assembler.parallel import Threads
from assembler.reference import Reference
from assembler.sources import T
from assembler.sources.docker_archive import in_docker_archive
from assembler.sources.found import Found, StoredLayer
from assembler.sources.layout import in_layout
from assembler.sources.members import FolderMembers, Members, TarMembers
from assembler.sources.stored import keep, kept
from assembler.streams import LayerStream, Readable

# Inflating is bound by the processor, and more streams than this are bound by the disk.
THREADS = min(4, os.cpu_count() or 1)

OnBytes = Callable[[int], None]


def open_archive(
    reference: Reference, platform: Platform, on_bytes: OnBytes | None = None
) -> ArchiveSource:
    """Return the image that `reference` names in a file or folder.

    on_bytes: told the number of bytes of each piece of a layer that is read.
    Raises SourceError or VerificationError, in one line, for anything wrong with the file.
    """
    path, where = Path(reference.path), f"{reference.transport}:{reference.path}"
    members: Members
    if reference.transport == "oci":
        members = FolderMembers(path, where)
    else:
        members = TarMembers(path, where)
    find = in_docker_archive if reference.transport == "docker-archive" else in_layout
    found = find(members, reference.within, platform)
    return ArchiveSource(str(reference), members, found, on_bytes)


class ArchiveSource:
    """A `Source` on the members of an archive or layout."""

    def __init__(
        self, reference: str, members: Members, found: Found, on_bytes: OnBytes | None
    ) -> None:
        self.reference = reference
        self.digest = found.digest
        self.config = found.config
        self.diff_ids = tuple(layer.diff_id for layer in found.layers)
        self.sizes = tuple(layer.size for layer in found.layers)
        self.digests = tuple(layer.digest for layer in found.layers)
        self._members, self._layers = members, found.layers
        self._on_bytes = on_bytes or (lambda _: None)

    def read(self, indices: Collection[int], visit: Callable[[LayerStream], T]) -> dict[int, T]:
        """As `Source.read`: several layers at a time, from as many threads."""

        def one(index: int, raw: BinaryIO) -> T:
            layer = self._layers[index]
            stream = LayerStream(
                raw, self._what(index), digest=layer.digest, size=layer.size, diff_id=layer.diff_id
            )
            result = visit(stream)
            stream.finish()
            return result

        return self._each(indices, one)

    def copy_layers(self, directory: Path) -> tuple[Descriptor, ...]:
        """As `Source.copy_layers`."""

        def one(index: int, raw: BinaryIO) -> Descriptor:
            layer = self._layers[index]
            there = self._there(layer, directory)
            if there:
                return there
            return keep(
                raw,
                self._what(index),
                directory,
                digest=layer.digest,
                size=layer.size,
                diff_id=layer.diff_id,
            )[0]

        copied = self._each(range(len(self._layers)), one)
        return tuple(copied[index] for index in range(len(self._layers)))

    def close(self) -> None:
        """Nothing is held open between calls."""

    def _there(self, layer: StoredLayer, directory: Path) -> Descriptor | None:
        with self._members.open(layer.path) as file:
            head = file.read(4)
        return kept(directory, layer.digest or layer.diff_id, head)

    def _what(self, index: int) -> str:
        return f"layer {index + 1} of {self.reference}"

    def _each(self, indices: Collection[int], work: Callable[[int, BinaryIO], T]) -> dict[int, T]:
        stop = threading.Event()

        def run(index: int) -> T:
            raw = self._members.open(self._layers[index].path)
            with _Counted(raw, self._on_bytes, stop) as counted:
                return work(index, counted)  # type: ignore[arg-type]

        with Threads(THREADS, thread_name_prefix="layer") as pool:
            futures = {index: pool.submit(run, index) for index in indices}
            try:
                done, _ = wait(futures.values(), return_when=FIRST_EXCEPTION)
                for future in done:
                    future.result()
                return {index: future.result() for index, future in futures.items()}
            finally:
                # After an error or Ctrl-C the other layers are not read to their ends.
                stop.set()
                pool.shutdown(cancel_futures=True)


class _Counted(Readable):
    """Reads `raw`, tells how much was read, and ends with an error when told to stop."""

    def __init__(self, raw: BinaryIO, on_bytes: OnBytes, stop: threading.Event) -> None:
        self._raw, self._on_bytes, self._stop = raw, on_bytes, stop

    def read(self, size: int = -1) -> bytes:
        if self._stop.is_set():
            raise SourceError("reading was stopped")
        data = self._raw.read(size)
        self._on_bytes(len(data))
        return data

    def close(self) -> None:
        if not self.closed:
            self._raw.close()
        super().close()
