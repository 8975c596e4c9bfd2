"""Images with one fault each: a slim image's layers and one more, or other settings.

The layers below are hard links, so a fault costs some kilobytes and no Engine.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
import shutil
import tarfile
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

from assembler import oci
from assembler.layers import WHITEOUT
from assembler.oci import Platform
from assembler.reference import Reference
from assembler.sources.opening import Access
from assembler.view import View

PLATFORM = Platform("linux", "amd64")


class Layer:
    """A layer that is being made; `view` has what lies below it."""

    def __init__(self, view: View) -> None:
        self.view = view
        self._buffer = io.BytesIO()
        self._tar = tarfile.open(fileobj=self._buffer, mode="w")  # noqa: SIM115

    def remove(self, path: str) -> None:
        """Take `path` away; it must be there."""
        assert path in self.view.tree, path
        folder, _, name = path.rpartition("/")
        self.write(f"{folder}/{WHITEOUT}{name}", b"")

    def write(self, path: str, data: bytes | str, mode: int = 0o644) -> None:
        """Put a file there."""
        info = tarfile.TarInfo(path)
        raw = data.encode() if isinstance(data, str) else data
        info.size, info.mode = len(raw), mode
        self._tar.addfile(info, io.BytesIO(raw))

    def read(self, path: str) -> bytes:
        """What lies below at `path`."""
        data = self.view.read(path)
        assert data is not None, path
        return data

    def find(self, end: str) -> str:
        """The one real file whose path ends so."""
        found = [p for p in self.view.tree if p.endswith(end) and self.view.tree[p].kind == "file"]
        assert len(found) == 1, found
        return found[0]

    def tar(self) -> bytes:
        """The layer's bytes."""
        self._tar.close()
        return self._buffer.getvalue()


Fault = Callable[[Layer, dict[str, Any]], None]


class Planter:
    """Plants faults into an image. tars: its layers, by the hex of their diff_ids."""

    def __init__(self, tars: Path, view: View) -> None:
        self.tars, self.view = tars, view

    def plant(self, where: Path, fault: Fault) -> Path:
        """Write a layout at `where` that has the fault; return it."""
        blobs = where / "blobs" / "sha256"
        blobs.mkdir(parents=True)
        config = json.loads(json.dumps(self.view.config))
        layer = Layer(self.view)
        fault(layer, config["config"])
        data = layer.tar()

        def put(media_type: str, content: bytes) -> oci.Json:
            (blobs / hashlib.sha256(content).hexdigest()).write_bytes(content)
            return oci.Descriptor(media_type, oci.sha256(content), len(content)).json()

        layers = []
        for diff_id in config["rootfs"]["diff_ids"]:
            path = self.tars / diff_id.removeprefix("sha256:")
            os.link(path, blobs / path.name)
            layers.append(oci.Descriptor(oci.OCI_LAYER, diff_id, path.stat().st_size).json())
        config["rootfs"]["diff_ids"].append(oci.sha256(data))
        config.pop("history", None)
        manifest = {
            "schemaVersion": 2,
            "mediaType": oci.OCI_MANIFEST,
            "config": put(oci.OCI_CONFIG, oci.canonical(config)),
            "layers": [*layers, put(oci.OCI_LAYER, data)],
        }
        entry = put(oci.OCI_MANIFEST, oci.canonical(manifest))
        index = {"schemaVersion": 2, "manifests": [entry]}
        (where / "index.json").write_bytes(oci.canonical(index))
        (where / "oci-layout").write_bytes(oci.canonical({"imageLayoutVersion": "1.0.0"}))
        return where


_READ = ("passwd", "_stub", "libtritonserver.so", "TRITON_VERSION", "entrypoint.sh", "utils.py")


@contextmanager
def planter(layout: Path, scratch: Path) -> Iterator[Planter]:
    """Yield what plants faults into the image of `layout`."""
    spool, tars = scratch / "spool", scratch / "tars"
    spool.mkdir(parents=True)
    tars.mkdir()
    with Access().open(Reference.parse(f"oci:{layout}"), PLATFORM) as source:

        def keep(stream: BinaryIO) -> None:
            with tempfile.NamedTemporaryFile(dir=tars, delete=False) as file:
                shutil.copyfileobj(stream, file, 1 << 20)
            Path(file.name).rename(tars / hashlib.sha256(Path(file.name).read_bytes()).hexdigest())

        # Inflated once, for all the images that are made of them.
        source.read(range(len(source.diff_ids)), keep)
        view = View.of(source, spool, lambda path: path.endswith(_READ))
        yield Planter(tars, view)
