"""One image as a merged tree, with the content of what is asked for.

The first read lists every layer and keeps what is likely to be wanted, so that most images
are read once; what turns out to be wanted later is fetched by reading its layers again.
"""

from __future__ import annotations

import itertools
import json
from collections import defaultdict
from collections.abc import Collection, Iterable
from pathlib import Path
from typing import Any, BinaryIO

from assembler import oci, tree
from assembler.errors import SourceError
from assembler.layers import Content, Layer, Spool, Wanted, read_layer
from assembler.sources import Source


class View:
    """A source's layers as one tree. `spool` is a folder for contents, of the caller's keeping."""

    def __init__(self, source: Source, spool: Path, likely: Wanted) -> None:
        """Read every layer of `source`; `likely` says whose content to keep on the way."""
        self.source = source
        self.tree = tree.Tree()
        self.config: dict[str, Any] = json.loads(source.config)
        self._spool = spool
        self._numbers = itertools.count()
        self._contents: dict[tuple[int, str], Content] = {}
        count = len(source.diff_ids)
        # From the top: the topmost layers hold what is asked for most.
        layers = self._read(range(count - 1, -1, -1), likely)
        for index in range(count):
            self.tree.apply(layers.pop(index), index)

    def _read(self, indices: Collection[int], wanted: Wanted) -> dict[int, Layer]:
        def visit(stream: BinaryIO) -> Layer:
            return read_layer(stream, wanted, Spool(self._spool / f"{next(self._numbers)}"))

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
        if missing:
            names = set().union(*missing.values())
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

    def origin(self, path: str) -> str:
        """Return the diff_id of the layer that the file at `path` comes from."""
        layer = self.tree[path].layer
        return self.source.diff_ids[layer] if layer >= 0 else ""
