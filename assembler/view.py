"""One image as a merged tree, with the content of what is asked for."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from assembler import oci, tree
from assembler.errors import SourceError
from assembler.layers import Content, Wanted
from assembler.reading import Key, Reader
from assembler.sources import Source


class View:
    """A source's layers as one tree."""

    def __init__(
        self,
        source: Source,
        likely: Wanted,
        reader: Reader,
    ) -> None:
        """Get to know all layers by `reader`; `likely`: whose content is fetched beforehand."""
        self.source = source
        self.tree = tree.Tree()
        self.config: dict[str, Any] = json.loads(source.config)
        self._reader = reader
        self._contents: dict[Key, Content] = {}
        self.used: dict[Key, Content] = {}  # what somebody asked for, and no more
        layers = self._reader.layers(likely)
        for number in range(len(source.diff_ids)):
            layer = layers.pop(number)
            self._contents |= {(number, name): found for name, found in layer.contents.items()}
            self.tree.apply(layer, number)
        if not self._reader.all_read:
            self._fetch((path for path in self.tree if likely(path)), guessed=True)

    @classmethod
    def of(cls, source: Source, spool: Path, likely: Wanted) -> View:
        """Return the view of a source of which nothing is known; `spool`: a folder for contents."""
        return cls(source, likely, Reader(source, spool))

    def fetch(self, paths: Iterable[str]) -> None:
        """Make sure that the content of these regular files (real paths) is at hand."""
        self._fetch(paths, guessed=False)

    def _fetch(self, paths: Iterable[str], *, guessed: bool) -> None:
        missing: dict[int, set[str]] = defaultdict(set)
        for path in paths:
            entry = self.tree[path]
            if entry.kind == "file" and (entry.layer, entry.member) not in self._contents:
                missing[entry.layer].add(entry.member)
        if missing:
            self._contents |= self._reader.contents(missing, guessed=guessed)

    def content(self, path: str) -> Content:
        """Return the content of the regular file at `path` (a real path)."""
        entry = self.tree[path]
        key = (entry.layer, entry.member)
        if key not in self._contents:
            self.fetch([path])
        if key not in self._contents:
            raise SourceError(f"/{path} of {self.source.reference} cannot be read twice alike")
        self.used[key] = self._contents[key]
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
        return [
            f"layer {number + 1} of {self.source.reference}: {how}"
            for number, how in sorted(self._reader.how.items())
        ]

    def origin(self, path: str) -> str:
        """Return the diff_id of the layer that the file at `path` comes from."""
        layer = self.tree[path].layer
        return self.source.diff_ids[layer] if layer >= 0 else ""
