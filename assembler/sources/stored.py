"""A layer kept on disk under its digest: `<folder>/sha256/<hex>`, written whole or not at all."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, BinaryIO

from assembler.errors import AssemblerError
from assembler.oci import OCI_LAYER, Descriptor
from assembler.streams import CHUNK, GZIP, ZSTD, LayerStream, Readable, VerifiedReader


def compression(head: bytes) -> str:
    """Return what a layer's media type ends in, by its first bytes: `+gzip`, `+zstd` or nothing.

    The media types that come with a layer lie (go-containerregistry #1203).
    """
    return "+gzip" if head.startswith(GZIP) else "+zstd" if head.startswith(ZSTD) else ""


def kept(folder: Path, digest: str, head: bytes) -> Descriptor | None:
    """Return the descriptor of a layer that `folder` has already."""
    path = folder / "sha256" / digest.removeprefix("sha256:")
    if not path.is_file():
        return None
    return Descriptor(OCI_LAYER + compression(head), digest, path.stat().st_size)


def keep(
    raw: BinaryIO,
    what: str,
    folder: Path,
    *,
    digest: str | None = None,
    size: int | None = None,
    diff_id: str | None = None,
) -> tuple[Descriptor, str]:
    """Write the layer `raw` into `folder` as it is stored; return its descriptor and diff_id.

    digest, size: of the blob, diff_id: of its tar; None where not known beforehand.
    Raises VerificationError for wrong bytes and AssemblerError where it cannot be written;
    nothing is left then.
    """
    with copying(raw, folder) as tee:
        stream = LayerStream(tee, what, digest=digest, size=size, diff_id=diff_id)  # type: ignore[arg-type]
        stream.finish()
        tee.digest = stream.actual_digest
    media_type = OCI_LAYER + compression(tee.head)
    return Descriptor(media_type, stream.actual_digest, stream.blob_bytes), stream.actual_diff_id


def keep_blob(raw: BinaryIO, what: str, folder: Path, blob: Descriptor) -> None:
    """Write `blob`, whatever it is, into `folder`; raises as `keep` does."""
    with copying(raw, folder) as tee:
        stream = VerifiedReader(tee, what, blob.digest, blob.size)  # type: ignore[arg-type]
        while stream.read(CHUNK):
            pass
        tee.digest = blob.digest


@contextmanager
def copying(raw: BinaryIO, folder: Path) -> Iterator[Tee]:
    """Yield a stream of what `raw` gives; it is in `folder` when the block has set its digest."""
    home = folder / "sha256"
    try:
        home.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(dir=home, prefix=".part-")
    except OSError as error:
        raise _unwritable(home, error) from None
    temporary = Path(name)
    try:
        with os.fdopen(handle, "wb") as out:
            tee = Tee(raw, out, home)
            yield tee
            out.flush()
            # The name is trusted from now on, so the bytes must outlive a power cut.
            os.fsync(handle)
        temporary.replace(home / tee.digest.removeprefix("sha256:"))
    except OSError as error:
        raise _unwritable(home, error) from None
    finally:
        temporary.unlink(missing_ok=True)


class Tee(Readable):
    """Reads `raw`, and writes what was read to `out`. digest: of it all, to be set at the end."""

    def __init__(self, raw: BinaryIO, out: IO[bytes], home: Path) -> None:
        self._raw, self._out, self._home = raw, out, home
        self.head = b""
        self.digest = ""

    def read(self, size: int = -1) -> bytes:
        data = self._raw.read(size)
        self.head = self.head or data[:4]
        try:
            self._out.write(data)
        except OSError as error:
            raise _unwritable(self._home, error) from None
        return data


def _unwritable(folder: Path, error: OSError) -> AssemblerError:
    return AssemblerError(f"cannot write into {folder}: {error.strerror or error}")
