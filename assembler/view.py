"""One image as a merged tree, with the content of what is asked for.

Layers that nobody knows are read and listed, and what is likely to be wanted of them is kept, so
that most images are read once. Of known ones (layercache.py), only those are read that hold a
file whose bytes are not at hand.
"""

from __future__ import annotations

import itertools
import json
from collections import defaultdict
from collections.abc import Collection, Iterable
from pathlib import Path
from typing import Any

from assembler import oci, tree
from assembler.errors import SourceError
from assembler.layercache import LayerCache
from assembler.layers import Content, Layer, Spool, Wanted, read_layer
from assembler.sources import Source
from assembler.streams import LayerStream


class View:
    """A source's layers as one tree. `spool` is a folder for contents, of the caller's keeping."""

    def __init__(
        self, source: Source, spool: Path, likely: Wanted, known: LayerCache | None = None
    ) -> None:
        """Read every layer of `source` that is not `known`; `likely`: whose content to keep."""
        self.source = source
        self._known = known
        self.tree = tree.Tree()
        self.config: dict[str, Any] = json.loads(source.config)
        self._spool = spool
        self._numbers = itertools.count()
        self._contents: dict[tuple[int, str], Content] = {}
        layers: dict[int, Layer] = {}
        for index, diff_id in enumerate(source.diff_ids if known else ()):
            assert known is not None
            if (layer := known.listing(diff_id, source.digests[index])) is not None:
                layers[index] = layer
        # The biggest first, so that none is left to be read alone at the end.
        unknown = [index for index in range(len(source.diff_ids)) if index not in layers]
        unknown.sort(key=lambda index: -source.sizes[index])
        self.layers_read = set(unknown)
        layers |= self._read(unknown, likely)
        for index in range(len(source.diff_ids)):
            self.tree.apply(layers.pop(index), index)
        if len(unknown) < len(source.diff_ids):
            self.fetch(path for path in self.tree if likely(path))

    def _read(self, indices: Collection[int], wanted: Wanted) -> dict[int, Layer]:
        if not indices:
            return {}

        def visit(stream: LayerStream) -> Layer:
            layer = read_layer(stream, wanted, Spool(self._spool / f"{next(self._numbers)}"))
            stream.finish()
            if self._known is not None:
                # At once: should the run be broken off, this layer need not be read again.
                self._known.keep(stream.actual_diff_id, stream.actual_digest, layer)
            return layer

        layers = self.source.read(indices, visit)
        for index, layer in layers.items():
            for name, content in layer.contents.items():
                self._contents[index, name] = content
        return layers

    def fetch(self, paths: Iterable[str]) -> None:
        """Make sure that the content of these regular files (real paths) is at hand."""
        missing: dict[int, set[str]] = defaultdict(set)
        for path in paths:
            entry = self.tree[path]
            if entry.kind == "file" and (entry.layer, entry.member) not in self._contents:
                missing[entry.layer].add(entry.member)
        if self._known is not None:
            for index in list(missing):
                there = self._known.contents(self.source.diff_ids[index], missing[index])
                self._contents |= {(index, name): content for name, content in there.items()}
                missing[index] -= there.keys()
                if not missing[index]:
                    del missing[index]
        if missing:
            names = set().union(*missing.values())
            self.layers_read |= missing.keys()
            self._read(sorted(missing), names.__contains__)

    def content(self, path: str) -> Content:
        """Return the content of the regular file at `path` (a real path)."""
        entry = self.tree[path]
        key = (entry.layer, entry.member)
        if key not in self._contents:
            self.fetch([path])
        if key not in self._contents:
            raise SourceError(f"/{path} of {self.source.reference} cannot be read twice alike")
        return self._contents[key]

    def read(self, path: str) -> bytes | None:
        """Return the bytes of the file that `path` leads to, or None where there is none."""
        real = self.tree.resolve(path)
        if real is None or self.tree[real].kind != "file":
            return None
        return self.content(real).read()

    def read_text(self, path: str) -> str | None:
        """Return the same as text (UTF-8, with what is not replaced)."""
        data = self.read(path)
        return None if data is None else data.decode(errors="replace")

    def env(self) -> dict[str, str]:
        """Return the environment of the image's config."""
        return oci.environment(self.config)

    @property
    def size(self) -> int:
        """Bytes of all files."""
        return sum(self.tree[path].size for path in self.tree)

    def reading(self) -> list[str]:
        """Return a line for each layer: that it was read, or why it need not be."""
        lines: list[str] = []
        for index, diff_id in enumerate(self.source.diff_ids):
            blob = self.source.digests[index] or diff_id
            proof = f"not read: the blob {blob} was listed to its last byte before"
            how = "read" if index in self.layers_read else proof
            lines.append(f"layer {index + 1} of {self.source.reference}: {how}")
        return lines

    def origin(self, path: str) -> str:
        """Return the diff_id of the layer that the file at `path` comes from."""
        layer = self.tree[path].layer
        return self.source.diff_ids[layer] if layer >= 0 else ""
