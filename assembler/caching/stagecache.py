"""Finished stage layers, kept under a key of all that shapes their bytes."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path

from assembler import layerfile
from assembler.caching.cache import Cache
from assembler.oci import Descriptor, LayerBlob
from assembler.rootfs import Node


def layer(
    nodes: Iterable[Node], mtime: int, folder: Path, cache: Cache, *, compress: bool
) -> LayerBlob:
    """Return the layer of `nodes`: out of `cache`, or made now and kept there.

    compress: gzip, on disk in `folder`; else a plain tar that is made when it is read, of which
    only digest and size are remembered.
    """
    nodes = list(nodes)
    name = f"stages/{layerfile.key(nodes, mtime)}-{'gzip' if compress else 'tar'}"
    if data := cache.get(name):
        known = json.loads(data)
        descriptor = Descriptor(known["mediaType"], known["digest"], known["size"])
        if not compress:
            return layerfile.plain(nodes, mtime, known["diff_id"], known["size"])
        if path := cache.blob(descriptor.digest, folder / "sha256"):
            return LayerBlob(known["diff_id"], descriptor, path)
    if compress:
        made = layerfile.write(nodes, mtime, folder)
        assert made.path is not None
        cache.add_blob(made.descriptor.digest, made.path)
    else:
        made = layerfile.measured(nodes, mtime)
    document = {"diff_id": made.diff_id, **made.descriptor.json()}
    cache.put(name, json.dumps(document).encode())
    return made
