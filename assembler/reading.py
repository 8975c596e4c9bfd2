"""How the layers of one image become known, by the cheapest way that is exact.

Listings come out of the cache or an index, else by reading the layer; bytes out of the cache, by
spans of blobs where there is an index, else by reading the layer.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Collection, Iterable, Mapping
from pathlib import Path
from typing import cast

from assembler.caching.layercache import LayerCache
from assembler.layers import Content, Layer, Spool, Wanted, read_layer
from assembler.parallel import Threads
from assembler.seeking import spans
from assembler.seeking.index import Making, SeekIndex
from assembler.sources import Source
from assembler.sources.blobs import BlobSource
from assembler.streams import LayerStream

# A regular file's bytes: the number of a layer, and the name of a member.
Key = tuple[int, str]
_READ = "read"
_HASHING = 2  # threads that check what the cache gives


class Reader:
    """Reads layers of `source`. spool: a folder for contents.

    known: what was read before, and remembers what is read now. index: of this image.
    making: gets an index of each layer that is read. seen: told of each layer as soon as it is
    listed, by any thread.
    how: by number of layer, how it became known; for people.
    """

    def __init__(
        self,
        source: Source,
        spool: Path,
        known: LayerCache | None = None,
        index: SeekIndex | None = None,
        making: Making | None = None,
        seen: Callable[[Layer], object] | None = None,
    ) -> None:
        self._source, self._spool = source, spool
        self._seen = seen or (lambda _: None)
        self._known, self._index, self._making = known, index, making
        self._numbers = itertools.count()
        self.how: dict[int, str] = {}

    @property
    def all_read(self) -> bool:
        """Whether every layer was read to its end, so that all that is likely wanted is here."""
        return all(how == _READ for how in self.how.values())

    def layers(self, likely: Wanted) -> dict[int, Layer]:
        """Return every layer; those that had to be read come with what is `likely` wanted."""
        found: dict[int, Layer] = {}
        for number, diff_id in enumerate(self._source.diff_ids):
            digest = self._source.digests[number]
            blob = f"the blob {digest or diff_id} was listed to its last byte"
            if self._known is not None and (layer := self._known.listing(diff_id, digest)):
                found[number], self.how[number] = layer, f"not read: {blob} in an earlier run"
            elif self._index is not None and (layer := self._index.listing(diff_id, digest)):
                found[number], self.how[number] = layer, f"not read: {blob} for the index"
        for layer in found.values():
            self._seen(layer)
        # The biggest first, so that none is left to be read alone at the end.
        sizes = self._source.sizes
        rest = sorted(set(range(len(sizes))) - found.keys(), key=lambda each: -sizes[each])
        return found | self._read(rest, likely)

    def contents(
        self, wanted: Mapping[int, Collection[str]], *, guessed: bool = False
    ) -> dict[Key, Content]:
        """Return the bytes of these files, by number of layer and name.

        guessed: they are but likely to be wanted, and not worth a layer that the index spares,
        unless that is here already.
        """
        if guessed and self._index is not None and not isinstance(self._source, BlobSource):
            digests, layers = self._source.digests, self._index.layers
            wanted = {
                number: [n for n in names if n in layers[digest].files]
                if (digest := digests[number] or "") in layers
                else names
                for number, names in wanted.items()
            }
        found: dict[Key, Content] = {}

        def missing() -> dict[int, set[str]]:
            left = {
                number: {name for name in names if (number, name) not in found}
                for number, names in wanted.items()
            }
            return {number: names for number, names in left.items() if names}

        if self._known is not None:
            asked = missing()
            ids = [self._source.diff_ids[number] for number in asked]
            with Threads(_HASHING) as pool:
                for number, there in zip(
                    asked, pool.map(self._known.contents, ids, asked.values()), strict=True
                ):
                    found |= {(number, name): content for name, content in there.items()}
        if self._index is not None:
            found |= self._by_spans(self._index, missing())
        if left := missing():
            names = set().union(*left.values())
            for number, layer in self._read(sorted(left), names.__contains__).items():
                found |= {(number, name): content for name, content in layer.contents.items()}
        return found

    def _by_spans(
        self, index: SeekIndex, wanted: Mapping[int, Collection[str]]
    ) -> dict[Key, Content]:
        folder = self._spool / f"spans-{next(self._numbers)}"
        folder.mkdir()
        found = spans.fetch(cast(spans.Ranged, self._source), index, wanted, folder)
        by_layer: dict[int, dict[str, Content]] = {}
        for (number, name), content in found.items():
            by_layer.setdefault(number, {})[name] = content
        for number, contents in by_layer.items():
            self.how[number] = f"{self.how[number]}; {len(contents)} files of it fetched by spans"
            if self._known is not None:
                self._known.keep_contents(self._source.diff_ids[number], contents)
        return found

    def _read(self, numbers: Iterable[int], wanted: Wanted) -> dict[int, Layer]:
        numbers = list(numbers)
        if not numbers:
            return {}

        def visit(stream: LayerStream) -> Layer:
            recorder = stream.record() if self._making is not None else None
            spool = Spool(self._spool / f"{next(self._numbers)}")
            layer = read_layer(stream, wanted, spool, recorder.pin if recorder else None)
            stream.finish()
            self._seen(layer)
            if recorder is not None and self._making is not None:
                self._making.add(stream.actual_digest, stream.actual_diff_id, layer, recorder)
            if self._known is not None:
                # At once: should the run be broken off, this layer need not be read again.
                self._known.keep(stream.actual_diff_id, stream.actual_digest, layer)
            return layer

        self.how |= dict.fromkeys(numbers, _READ)
        return self._source.read(numbers, visit)
