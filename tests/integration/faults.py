"""Images with one fault each: a slim image's OCI layout with one layer more, or other settings.

The layers below are links to those of the layout that they are made from, so a fault costs some
kilobytes and no Engine.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

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
    """Plants faults into the image of a layout."""

    def __init__(self, layout: Path, scratch: Path) -> None:
        self.layout = layout
        scratch.mkdir(parents=True, exist_ok=True)
        with Access().open(Reference.parse(f"oci:{layout}"), PLATFORM) as source:
            self.view = View(source, scratch, lambda path: path.endswith((".so.1", "passwd")))
        self._source = Access().open(Reference.parse(f"oci:{layout}"), PLATFORM)
        self.view.source = self._source.__enter__()

    def close(self) -> None:
        """Give back the layout."""
        self._source.__exit__(None, None, None)

    def plant(self, where: Path, fault: Fault) -> Path:
        """Write a layout at `where` that has the fault; return it."""
        blobs = where / "blobs" / "sha256"
        blobs.mkdir(parents=True)
        for blob in (self.layout / "blobs" / "sha256").iterdir():
            os.link(blob, blobs / blob.name)
        index = json.loads((self.layout / "index.json").read_bytes())
        manifest = json.loads(self._blob(index["manifests"][0]["digest"]))
        config = json.loads(self._blob(manifest["config"]["digest"]))
        layer = Layer(self.view)
        fault(layer, config["config"])
        data = layer.tar()
        config["rootfs"]["diff_ids"].append(oci.sha256(data))
        config.pop("history", None)

        def put(media_type: str, content: bytes) -> oci.Json:
            (blobs / hashlib.sha256(content).hexdigest()).write_bytes(content)
            return oci.Descriptor(media_type, oci.sha256(content), len(content)).json()

        manifest["layers"].append(put(oci.OCI_LAYER, data))
        manifest["config"] = put(oci.OCI_CONFIG, oci.canonical(config))
        entry = put(oci.OCI_MANIFEST, oci.canonical(manifest))
        (where / "index.json").write_bytes(oci.canonical({"schemaVersion": 2, "manifests": [entry]}))
        (where / "oci-layout").write_bytes((self.layout / "oci-layout").read_bytes())
        return where

    def _blob(self, digest: str) -> bytes:
        return (self.layout / "blobs" / digest.replace(":", "/")).read_bytes()
