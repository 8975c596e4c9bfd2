"""Blobs of an OCI layout: small documents, and layers compressed as they are written."""

from __future__ import annotations

import hashlib
import io
import json
import tarfile
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from isal import isal_zlib

OCI = "application/vnd.oci.image."
Fill = Callable[[tarfile.TarFile], None]
"""Puts a layer's entries into its tar."""


@dataclass(frozen=True)
class Layer:
    """A layer that was written. size: of the tar, in bytes; packed: of the blob."""

    diff_id: str
    digest: str
    size: int
    packed: int

    @property
    def descriptor(self) -> dict[str, Any]:
        return {
            "mediaType": f"{OCI}layer.v1.tar+gzip",
            "digest": self.digest,
            "size": self.packed,
        }


class Blobs:
    """The blobs of a layout folder."""

    def __init__(self, layout: Path) -> None:
        self.folder = layout / "blobs" / "sha256"
        self.folder.mkdir(parents=True, exist_ok=True)

    def put(self, document: dict[str, Any], media_type: str) -> dict[str, Any]:
        """Write a JSON document and return its descriptor."""
        data = json.dumps(document).encode()
        digest = hashlib.sha256(data).hexdigest()
        (self.folder / digest).write_bytes(data)
        return {"mediaType": media_type, "digest": f"sha256:{digest}", "size": len(data)}

    def layer(self, fill: Fill) -> Layer:
        """Write the layer that `fill` puts entries into; nothing of it is held in memory."""
        temporary = self.folder / "writing"
        with temporary.open("wb") as file:
            sink = _Sink(file)
            with tarfile.open(
                fileobj=sink, mode="w|", format=tarfile.PAX_FORMAT, bufsize=1 << 20
            ) as tar:
                fill(tar)
            sink.close()
        digest = sink.digest.hexdigest()
        temporary.replace(self.folder / digest)
        return Layer(
            f"sha256:{sink.diff_id.hexdigest()}", f"sha256:{digest}", sink.count, sink.packed
        )


class _Sink(io.RawIOBase):
    """Compresses and hashes what is written to it."""

    def __init__(self, file: IO[bytes]) -> None:
        self.file = file
        self.diff_id, self.digest = hashlib.sha256(), hashlib.sha256()
        self.count = self.packed = 0
        # Level 1 of isal: as small as zlib's and six times as fast, which counts at 16 GB.
        self._gzip = isal_zlib.compressobj(1, zlib.DEFLATED, 31)

    def writable(self) -> bool:
        return True

    def write(self, data: Any) -> int:
        self.diff_id.update(data)
        self.count += len(data)
        self._out(self._gzip.compress(data))
        return len(data)

    def _out(self, data: bytes) -> None:
        self.digest.update(data)
        self.packed += len(data)
        self.file.write(data)

    def close(self) -> None:
        if not self.closed:
            self._out(self._gzip.flush())
        super().close()
