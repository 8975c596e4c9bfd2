"""What is known of layers that were read before: what they list (the map), and bytes out of them.

A listing is whole: with the listings of all its layers, an image's tree is there without reading
it, and only the layers of files whose bytes are not at hand are read. Bytes lie in packs: the
spool of one reading, with an index of what is where.

What is said of an unread layer holds because its digests do: a layer is known when a blob of this
digest was once seen, to its last byte, to be the tar of this diff_id. A manifest and a config can
say of any blob that it is some known layer, and are not believed.
"""

from __future__ import annotations

import base64
import hashlib
import json
import threading
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from assembler import zstd
from assembler.caching.cache import Cache
from assembler.layers import Content, Layer, Member

# Changes with the form of what is stored, or with what a reader makes of a tar.
_FORM = 1
# What reading a document of another form raises.
MALFORMED: Any = (
    zstd.ZstdError, ValueError, LookupError, TypeError, AttributeError, RecursionError
)  # fmt: skip
_KINDS = ("file", "dir", "symlink", "hardlink", "other")


def document(layer: Layer) -> dict[str, Any]:
    """Return the listing of a layer, without contents, as a JSON document."""
    members = [
        [m.name, _KINDS.index(m.kind), m.mode, m.uid, m.gid, m.size, m.link]
        + [[key, base64.b64encode(value).decode()] for key, value in m.xattrs]
        for m in layer.members
    ]
    return {"members": members, "whiteouts": layer.whiteouts, "opaque": layer.opaque}


def from_document(listing: Mapping[str, Any]) -> Layer:
    """Return the layer of which `document` made a document.

    Raises one of MALFORMED for anything else.
    """
    members = [_member(*each) for each in listing["members"]]
    return Layer(members, _names(listing["whiteouts"]), _names(listing["opaque"]))


def _member(
    name: str, kind: int, mode: int, uid: int, gid: int, size: int, link: str, *xattrs: list[str]
) -> Member:
    numbers = (kind, mode, uid, gid, size)
    if any(type(each) is not int or each < 0 for each in numbers) or mode > 0o7777:
        raise ValueError(f"{name!r} has a number that no file has")
    if type(link) is not str or _KINDS[kind] == "hardlink":
        _inside(link)
    values = tuple((key + "", base64.b64decode(value)) for key, value in xattrs)
    return Member(_inside(name), _KINDS[kind], mode, uid, gid, size, link, values)


def _inside(name: str) -> str:
    """Return a name as `layers.normal` gives them; ValueError for any other."""
    parts = name.split("/")
    if ".." in parts or "." in parts or (name and "" in parts):
        raise ValueError(f"{name!r} is no name of a layer")
    return name


def _names(names: list[str]) -> list[str]:
    if not isinstance(names, list):
        raise TypeError(f"{names!r} is no list of names")
    return [_inside(name) for name in names]


class LayerCache:
    """Listings and packs in `cache`. scratch: a folder of the run, for links to packs.

    forget: know nothing, but remember what is read now, in the place of what was known.
    """

    def __init__(self, cache: Cache, scratch: Path, *, forget: bool = False) -> None:
        self._cache, self._scratch, self._forget = cache, scratch, forget
        self._packs: dict[str, dict[str, list[tuple[Content, Path]]]] = {}
        self._linked: dict[Path, Path | None] = {}
        self._kept: frozenset[str] = frozenset()
        self._lock = threading.Lock()

    def listing(self, diff_id: str, digest: str | None) -> Layer | None:
        """Return what a layer lists, or None where nobody knows.

        digest: of the layer as stored, where it has one.
        """
        if self._forget or (digest and self._cache.get(_pair(diff_id, digest)) is None):
            return None
        data = self._cache.get(f"{folder(diff_id)}/listing-{_FORM}")
        try:
            return from_document(json.loads(zstd.decompress(data))) if data else None
        except MALFORMED:  # As it came from a registry: only its digest was checked there.
            return None

    def keep(self, diff_id: str, digest: str, layer: Layer) -> None:
        """Remember a layer that was read and verified to its end, in a blob of this digest.

        Where nothing is to be known, this also ends what others said of the layer's files.
        """
        home = folder(diff_id)
        with self._lock:
            first, self._kept = diff_id not in self._kept, self._kept | {diff_id}
        if self._forget and first:
            for path in self._cache.find(f"{home}/*.index-{_FORM}"):
                self._cache.remove(f"{home}/{path.name}")
                self._cache.remove(f"{home}/{path.stem}.pack")
        # The listing spares reading the layer again, so it comes last: a kill may come in between.
        self.keep_contents(diff_id, layer.contents)
        self._cache.put(_pair(diff_id, digest), b"")
        listing = json.dumps(document(layer), separators=(",", ":")).encode()
        self._cache.put(f"{home}/listing-{_FORM}", zstd.compress(listing, level=3))

    def keep_contents(self, diff_id: str, contents: Mapping[str, Content]) -> None:
        """Remember bytes of the layer, which were verified."""
        packs: dict[Path, dict[str, list[object]]] = {}
        for name, content in sorted(contents.items()):
            what = [content.offset, content.size, content.sha256]
            packs.setdefault(content.path, {})[name] = what
        for spool, index in packs.items():
            data = json.dumps(index, separators=(",", ":")).encode()
            name = f"{folder(diff_id)}/{hashlib.sha256(data).hexdigest()[:16]}"
            # The index makes the pack known, so it comes last.
            self._cache.add(f"{name}.pack", spool)
            self._cache.put(f"{name}.index-{_FORM}", data)

    def contents(self, diff_id: str, names: Iterable[str]) -> dict[str, Content]:
        """Return the bytes of those files of the layer that are at hand and undamaged."""
        known = {} if self._forget else self._index(diff_id)
        return {
            name: found
            for name in names
            if (found := self._intact(known.get(name, ()))) is not None
        }

    def _index(self, diff_id: str) -> Mapping[str, list[tuple[Content, Path]]]:
        with self._lock:
            if diff_id in self._packs:
                return self._packs[diff_id]
            found = self._packs[diff_id] = {}
            for path in self._cache.find(f"{folder(diff_id)}/*.index-{_FORM}"):
                data = self._cache.get(f"{folder(diff_id)}/{path.name}")
                pack = path.with_suffix(".pack")
                try:
                    entries = [
                        (name, Content(self._scratch / pack.name, *_place(*place)))
                        for name, place in (json.loads(data) if data else {}).items()
                    ]
                except MALFORMED:
                    continue
                for name, content in entries:
                    found.setdefault(name, []).append((content, pack))
            return found

    def _intact(self, candidates: Iterable[tuple[Content, Path]]) -> Content | None:
        for content, pack in candidates:
            if not self._link(pack):
                continue
            digest = hashlib.sha256()
            with content.open() as file:
                digest.update(file.read(content.size))
            if digest.hexdigest() == content.sha256:
                return content
        return None

    def _link(self, pack: Path) -> Path | None:
        with self._lock:
            if pack not in self._linked:
                self._linked[pack] = self._cache.link(pack, self._scratch / pack.name)
            return self._linked[pack]


def _place(offset: int, size: int, sha256: str) -> tuple[int, int, str]:
    if type(offset) is not int or type(size) is not int or min(offset, size) < 0:
        raise ValueError("a place that no pack has")
    return offset, size, sha256


def _pair(diff_id: str, digest: str) -> str:
    return f"{folder(diff_id)}/blob-{digest.removeprefix('sha256:')}"


def folder(diff_id: str) -> str:
    """Return the folder of the cache that has what is known of a layer."""
    return f"layers/{diff_id.removeprefix('sha256:')}"
