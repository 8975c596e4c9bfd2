"""What strangers write into a cache or an index: absent or refused, and ended by a full read."""

from __future__ import annotations

import copy
import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from assembler import zstd
from assembler.caching import layercache, remotecache
from assembler.caching.cache import Cache
from assembler.caching.layercache import LayerCache
from assembler.errors import SourceError
from assembler.layers import Layer, Spool, read_layer
from assembler.seeking import index as seekindex
from tests.unit.building import reg, tar

DIFF_ID, DIGEST = "sha256:" + "a" * 64, "sha256:" + "b" * 64
FILES = {"etc/one": b"one", "etc/two": b"two2", "etc/three": b"three"}


def read(folder: Path, wanted: set[str], files: dict[str, bytes] = FILES) -> Layer:
    data = tar(*(reg(name, content) for name, content in files.items()))
    return read_layer(io.BytesIO(data), wanted.__contains__, Spool(folder / "spool"))


def remembered(cache: Cache, folder: Path, *names: str) -> dict[str, bytes]:
    found = LayerCache(cache, folder).contents(DIFF_ID, names)
    return {name: content.read() for name, content in found.items()}


def test_a_full_read_ends_what_was_said_of_a_layer(tmp_path: Path) -> None:
    cache = Cache(tmp_path / "cache", pytest.fail)
    folders = [tmp_path / each for each in "abcd"]
    for each in folders:
        each.mkdir()
    false = dict.fromkeys(FILES, b"false")
    LayerCache(cache, folders[0]).keep_contents(
        DIFF_ID, read(folders[0], set(FILES), false).contents
    )
    assert remembered(cache, folders[0], *FILES) == false
    known = LayerCache(cache, folders[1], forget=True)
    # As base and full image do that share a layer, of which each wants other files.
    known.keep(DIFF_ID, DIGEST, read(folders[1], {"etc/one"}))
    known.keep(DIFF_ID, DIGEST, read(folders[2], {"etc/two"}))
    right = {name: FILES[name] for name in ("etc/one", "etc/two")}
    assert remembered(cache, folders[3], *FILES) == right


def member(at: int, value: Any) -> Callable[[dict[str, Any]], None]:
    return lambda listing: listing["members"][0].__setitem__(at, value)


LIES: dict[str, Callable[[dict[str, Any]], Any]] = {
    "name": member(0, 5),
    "no name": member(0, None),
    "outside": member(0, "../etc/one"),
    "absolute": member(0, "/etc/one"),
    "kind": member(1, -1),
    "mode": member(2, "x"),
    "large mode": member(2, 1 << 40),
    "user": member(3, "root"),
    "negative user": member(3, -1),
    "size": member(5, 3.5),
    "link": member(6, None),
    "xattr": lambda listing: listing["members"][0].append([5, "AAAA"]),
    "whiteout": lambda listing: listing["whiteouts"].append(1),
    "whiteouts": lambda listing: listing.update(whiteouts=None),
    "opaque": lambda listing: listing.update(opaque="usr"),
    "deep": lambda listing: listing["opaque"].append([["usr"]]),
}


@pytest.mark.parametrize("lie", LIES)
def test_a_listing_that_is_none(tmp_path: Path, lie: str) -> None:
    cache = Cache(tmp_path / "cache", pytest.fail)
    layer = read(tmp_path, set(FILES))
    known = LayerCache(cache, tmp_path)
    known.keep(DIFF_ID, DIGEST, layer)
    listing = layercache.document(layer)
    assert known.listing(DIFF_ID, DIGEST) is not None
    LIES[lie](listing)
    name = f"{layercache.folder(DIFF_ID)}/listing-1"
    cache.put(name, zstd.compress(json.dumps(listing).encode()))
    assert known.listing(DIFF_ID, DIGEST) is None
    with pytest.raises(SourceError, match="no seek index"):
        seekindex.load(indexed(listing, {}), "it")


def indexed(listing: dict[str, Any], files: dict[str, Any]) -> bytes:
    layer = {
        "diff_id": DIFF_ID,
        "compression": "gzip",
        "listing": listing,
        "files": files,
        "points": [],
    }
    return zstd.compress(json.dumps({"form": 2, "layers": {DIGEST: layer}}).encode())


@pytest.mark.parametrize("garbage", [b"", b"x", b"[" * 100_000, b'{"etc/one": [-1, "3", 0]}'])
def test_garbage_in_a_cache(tmp_path: Path, garbage: bytes) -> None:
    cache = Cache(tmp_path / "cache", pytest.fail)
    layer = read(tmp_path, set(FILES))
    LayerCache(cache, tmp_path).keep(DIFF_ID, DIGEST, layer)
    folder = layercache.folder(DIFF_ID)
    cache.put(f"{folder}/listing-1", zstd.compress(garbage))
    cache.put(f"{folder}/other.index-1", garbage)
    assert LayerCache(cache, tmp_path).listing(DIFF_ID, DIGEST) is None
    assert remembered(cache, tmp_path, *FILES) == FILES
    with pytest.raises(SourceError, match="no seek index"):
        seekindex.load(zstd.compress(garbage), "it")


def test_an_index_at_odds_with_its_listing(tmp_path: Path) -> None:
    listing = layercache.document(read(tmp_path, set()))
    place = [512, 3, "0" * 64, 1024]
    assert seekindex.load(indexed(copy.deepcopy(listing), {"etc/one": place}), "it").layers
    for lie in ({"etc/one": [512, 4, "0" * 64, 1024]}, {"etc/four": place}):
        with pytest.raises(SourceError, match="another size"):
            seekindex.load(indexed(listing, lie), "it")


def test_an_index_that_inflates_without_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(seekindex, "_LARGEST", 1000)
    with pytest.raises(SourceError, match="too large"):
        seekindex.load(zstd.compress(bytes(5000)), "it")


@pytest.mark.parametrize("name", ["listing-1", f"blob-{'b' * 64}", "0a.index-1", "0a.pack"])
def test_names_in_a_cache_that_others_fill(name: str) -> None:
    folder = layercache.folder(DIFF_ID)
    assert remotecache._is_of(f"{folder}/{name}", {folder})
    for other in ("..", "a\0b", "", ".hidden", f"../{name}", "a" * 300):
        assert not remotecache._is_of(f"{folder}/{other}", {folder})
    assert not remotecache._is_of(f"layers/{name}", {folder})
