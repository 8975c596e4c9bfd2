"""Where an image is read from.

Every source gives the same small read-only view: a config, the diff_ids of the
layers, and the layers as streams. A source verifies every byte that it hands out
and knows nothing of what is done with it.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from pathlib import Path
from typing import Protocol, TypeVar

from assembler.oci import Descriptor
from assembler.streams import LayerStream

T = TypeVar("T")


class Source(Protocol):
    """An image that can be read.

    reference: the image as the user named it, transport included, for messages.
    digest: the manifest's digest, or None where the source has no manifest (the Engine's
        classic store, `docker save` archives).
    config: the raw bytes of the image config, verified.
    diff_ids: digests of the uncompressed layers, bottom layer first.
    sizes: bytes to be read for each layer, in the same order (0 where it is not known).
    digests: of the layers as stored, where they are known before reading, else None.
    """

    reference: str
    digest: str | None
    config: bytes
    diff_ids: tuple[str, ...]
    sizes: tuple[int, ...]
    digests: tuple[str | None, ...]

    def read(self, indices: Collection[int], visit: Callable[[LayerStream], T]) -> dict[int, T]:
        """Hand each of these layers, as a stream of uncompressed tar bytes, to `visit`.

        Layers may come in any order and in parallel from several threads. The stream is
        drained after `visit` returns (which may do so itself: LayerStream.finish), and what
        `visit` returned is given back only when every byte agreed with digest and diff_id.
        Raises VerificationError for wrong bytes, SourceError for unreadable ones.
        """
        ...

    def copy_layers(self, directory: Path) -> tuple[Descriptor, ...]:
        """Write all layers, verified and as they are stored, into `directory`/sha256/<hex>.

        Returns their descriptors (OCI media types), bottom layer first. Files that are there
        already are trusted (their names are digests, written only when verified).
        """
        ...

    def close(self) -> None:
        """Give back connections and files."""
        ...
