"""Whatever is not read again, or read in part: the image is the one that a full read gives."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from assembler import oci
from assembler.registries import retries
from assembler.seeking import spans
from tests.integration import small
from tests.integration.shortcuts import LIBRARY, MORE, PYTHON, Place
from tests.unit import fake_registry
from tests.unit.building import elf, folder, hard, reg, sym, tar

STATUS = "var/lib/dpkg/status"
# What a layer that looks uninteresting may do to what is wanted.
HOSTILE = {
    "rewrites a file": tar(reg(MORE, "x = 2\n")),
    "rewrites a library": tar(reg(LIBRARY, small.library("libtriton_python.so") + b"more")),
    "another mode": tar(reg(MORE, "x = 1\n", 0o700)),
    "deletes a file": tar(reg(f"{PYTHON}/.wh.more.py")),
    "deletes what is needed": tar(reg(f"{PYTHON}/.wh.libtriton_python.so")),
    "deletes the folder": tar(reg("opt/tritonserver/backends/.wh.python")),
    "opaque": tar(folder(PYTHON), reg(f"{PYTHON}/.wh..wh..opq"),
                  reg(LIBRARY, small.library("libtriton_python.so"))),
    "a link": tar(reg("opt/tritonserver/other.py", "x = 3\n"), reg(f"{PYTHON}/.wh.more.py"),
                  sym(MORE, "../../other.py")),
    "a link in place of the folder": tar(
        reg("opt/tritonserver/b/libtriton_python.so", small.library("libtriton_python.so")),
        sym(PYTHON, "../b")),
    "a hard link": tar(reg("srv/it", "x = 4\n"), hard(MORE, "srv/it")),
    "a package database that lies": tar(
        reg(STATUS, small.status("libc6", "bash", "python3 9", "ca-certificates")),
        reg("var/lib/dpkg/info/python3.md5sums", f"{'0' * 32}  {MORE}\n"),
        reg(MORE, "x = 5\n")),
    "a package database without a package": tar(reg(STATUS, small.status("libc6"))),
}  # fmt: skip


@pytest.fixture
def place(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> Iterator[Place]:
    """A place of one's own, less patient with its registry."""
    monkeypatch.setattr(retries.Policy.__init__, "__defaults__", (2, 0.01, 0.01, 1.0, 2.0))
    made = Place(tmp_path, capsys)
    yield made
    made.registry.close()


@pytest.mark.parametrize("at", [2, 3], ids=["between", "on top"])
@pytest.mark.parametrize("name", HOSTILE)
def test_a_layer_that_looks_uninteresting(place: Place, name: str, at: int) -> None:
    index = place.index("a")
    assert place.extract("a").status == 0
    place.image("b", *place.layers[:at], HOSTILE[name], *place.layers[at:])
    right = place.plain("b")
    assert place.extract("b").result == right.result
    # With the index of a: the layers it has by spans, the other one read.
    cold = place.fresh("cold")
    found = place.extract("b", "--index-from", index, "--cache-dir", cold)
    assert (found.result, found.warnings) == (right.result, [])
    # And both known, listed out of order: b first, then a.
    assert place.extract("a", "--cache-dir", cold).result == place.plain("a").result


def test_warm_cache_reads_only_the_new_layer(place: Place) -> None:
    place.extract("a")
    manifest = place.image("b", *place.layers, HOSTILE["rewrites a file"])
    found = place.extract("b", "-v")
    new = manifest.layers[3].digest
    assert [each for each in place.blobs() if manifest.config.digest not in each] == [
        f"/v2/triton/blobs/{new}"
    ]
    assert sum("not read" in line and "listed to its last byte" in line for line in found.said) >= 3


def lies(place: Place) -> dict[str, oci.Json]:
    """Manifests that claim what is not so of layers that are known."""
    manifest = json.loads(place.registry.manifests["triton:a"][1])
    config = json.loads(place.registry.blobs[manifest["config"]["digest"]])

    def changed(layers: list[oci.Json], diff_ids: list[str]) -> oci.Json:
        data = json.dumps(config | {"rootfs": {"type": "layers", "diff_ids": diff_ids}}).encode()
        place.registry.blobs[oci.sha256(data)] = data
        described = oci.Descriptor(oci.OCI_CONFIG, oci.sha256(data), len(data)).json()
        return manifest | {"config": described, "layers": layers}

    evil = place.image("evil", HOSTILE["rewrites a file"])
    stranger = evil.layers[0].json()
    one, two, three = manifest["layers"]
    a, b, c = config["rootfs"]["diff_ids"]
    return {
        "known diff_id of another blob": changed([one, stranger, three], [a, b, c]),
        "known blob in another position": changed([one, three, two], [a, b, c]),
        "known blob twice": changed([one, two, two], [a, b, c]),
        "known blob of another diff_id": changed([one, two, three], [a, b, oci.sha256(b"x")]),
        "known blob, another size": changed(
            [one, two | {"size": two["size"] + 1}, three], [a, b, c]
        ),
    }


@pytest.mark.parametrize("number", range(5))
def test_a_manifest_or_config_that_lies(place: Place, number: int) -> None:
    index = place.index("a")
    place.extract("a")
    name, lie = list(lies(place).items())[number]
    place.put("lie", lie)
    cold = place.fresh("cold")
    for words in (["--read-all"], [], ["--index-from", index, "--cache-dir", cold]):
        found = place.extract("lie", *words)
        if "size" in name and words != ["--read-all"]:
            # What a known digest stands for needs no size: these are the right bytes.
            assert found.status == 1 or place.layers_of(found) == place.layers_of(place.plain("a"))
        else:
            assert (found.status, found.tree) == (1, {})
        assert len([line for line in found.said if line.startswith("assembler: ")]) <= 1


def test_other_order_of_known_layers(place: Place) -> None:
    old, new = tar(reg(MORE, "x = 6\n")), tar(reg(MORE, "x = 7\n"))
    place.image("b", *place.layers, old, new)
    place.image("c", *place.layers, new, old)
    index = place.index("b")
    place.extract("b")
    right = place.plain("c").result
    assert place.extract("c").result == right
    cold = place.fresh("cold")
    assert place.extract("c", "--index-from", index, "--cache-dir", cold).result == right


# -- the cache -------------------------------------------------------------------------------


def test_unchanged_inputs_ask_for_the_tags_alone(place: Place) -> None:
    first = place.extract("a")
    again = place.extract("a")
    assert again.tree == first.tree
    assert sorted(each.path for each in place.registry.requests) == [
        "/v2/triton/manifests/a", "/v2/ubuntu/manifests/1",
    ]  # fmt: skip


def test_pinned_inputs_ask_for_nothing(place: Place) -> None:
    digests = [oci.sha256(place.registry.manifests[name][1]) for name in ("triton:a", "ubuntu:1")]
    words = "--base", f"{place.registry.host}/ubuntu@{digests[1]}"
    first = place.extract(f"@{digests[0]}", *words)
    assert first.status == 0
    assert place.extract(f"@{digests[0]}", *words).tree == first.tree
    assert place.registry.requests == []


def damage(path: Path, how: str) -> None:
    data = bytearray(path.read_bytes())
    if how == "flip" and data:
        data[len(data) // 2] ^= 0x40
    else:
        del data[len(data) // 2 :]
    # A new file: links of other runs are not touched.
    path.unlink()
    path.write_bytes(data)


@pytest.mark.parametrize("how", ["flip", "truncate"])
def test_each_file_of_the_cache_damaged(place: Place, how: str) -> None:
    right = place.extract("a", "--index").tree
    kept = [p for p in place.cache.rglob("*") if p.is_file() and "wheels" not in p.parts]
    kinds = {p.relative_to(place.cache).parts[0] for p in kept}
    assert {"blobs", "layers", "results", "stages", "documents", "indexes"} <= kinds
    for path in kept:
        if path.exists():
            damage(path, how)
        found = place.extract("a")
        assert (found.status, found.tree) == (0, right), path
        assert len(found.warnings) <= 1
    # All at once, and without the whole result.
    for path in (p for p in place.cache.rglob("*") if p.is_file() and "wheels" not in p.parts):
        damage(path, how)
    found = place.extract("a")
    assert (found.tree, len(found.warnings) <= 1) == (right, True)
    # It has healed: nothing is read again, even when the whole result is not at hand.
    for path in (place.cache / "results").iterdir():
        path.unlink()
    assert place.extract("a").tree == right
    assert place.blobs() == []


def test_all_layers_of_the_cache_damaged(place: Place) -> None:
    right = place.extract("a").tree
    for _ in range(2):
        for kind in ("results", "stages"):
            for path in (place.cache / kind).iterdir():
                path.unlink()
        for pack in place.cache.rglob("*.pack"):
            damage(pack, "flip")
        assert place.extract("a").tree == right
        assert place.blobs() != []
        for kind in ("results", "stages"):
            for path in (place.cache / kind).iterdir():
                path.unlink()
        assert place.extract("a").tree == right
        assert place.blobs() == []


def test_a_file_in_the_place_of_the_cache(place: Place) -> None:
    file = place.folder / "file"
    file.write_text("mine")
    right = place.plain("a", "--backend", "python").tree
    found = place.extract("a", "--backend", "python", "--cache-dir", file, "--offline")
    assert found.status == 1  # The wheel is not at hand, and no tag was ever seen.
    assert file.read_text() == "mine"
    assert right


def test_results_of_an_older_form(place: Place) -> None:
    right = place.extract("a").tree
    for path in list(place.cache.rglob("listing-*")) + list(place.cache.rglob("*.index-*")):
        path.rename(path.with_name(path.name.rsplit("-", 1)[0] + "-0"))
    for path in (place.cache / "results").iterdir():
        path.unlink()
    found = place.extract("a")
    assert (found.tree, found.warnings) == (right, [])


# -- the seek index ------------------------------------------------------------------------


@pytest.fixture
def indexed(place: Place) -> tuple[Place, Path, dict[str, bytes]]:
    """A place with an index of a, and the right result."""
    return place, place.index("a"), dict(place.plain("a").tree)


RANGES = {
    "200": (fake_registry.status(200, b"x" * 100), 99),
    "416": (fake_registry.status(416), 99),
    "another range": (lambda _request, _reply: fake_registry.Reply(
        206, {"Content-Range": "bytes 0-9/10"}, b"0123456789"), 99),
    "cut short": (fake_registry.cut(50), 1),
    "cut short each time": (fake_registry.cut(50), 99),
    "truncated": (fake_registry.truncated(50), 1),
    "recompressed": (fake_registry.changed(fake_registry.gzipped, Content_Encoding="gzip"), 99),
    "server error": (fake_registry.status(503), 1),
}  # fmt: skip


@pytest.mark.parametrize("name", RANGES)
def test_what_a_registry_makes_of_ranges(
    indexed: tuple[Place, Path, dict[str, bytes]], name: str
) -> None:
    place, index, right = indexed
    change, times = RANGES[name]

    def ranged(request: fake_registry.Request, reply: fake_registry.Reply) -> fake_registry.Reply:
        return change(request, reply) if "range" in request.headers else reply

    place.registry.fault("/triton/blobs/", ranged, times=times)
    found = place.extract("a", "--index-from", index, "--cache-dir", place.fresh("cold"))
    assert (found.status, found.tree) == (0, right) or (
        (found.status, found.tree) == (1, {})
        and sum(line.startswith("assembler: ") for line in found.said) == 1
        and name == "cut short each time"
    ), found.said
    assert len(found.warnings) <= 1


def test_no_ranges_at_all(indexed: tuple[Place, Path, dict[str, bytes]]) -> None:
    place, index, right = indexed
    place.registry.ranges = False
    found = place.extract("a", "--index-from", index, "--cache-dir", place.fresh("cold"))
    assert (found.tree, len(found.warnings)) == (right, 1)


def test_no_ranges_after_the_base_was_read(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    # What the first attempt kept of the base is in the cache when the second reads more of it.
    extra = {"usr/lib64/libextra.so.1": elf(soname="libextra.so.1", needed=["libc.so.6"])}
    library = elf(soname="libtriton_python.so", needed=["libextra.so.1", "libc.so.6"])
    place.image("b", *place.layers, small.layer(extra), tar(reg(LIBRARY, library)))
    index = place.index("b")
    # Another base than that of the index, so that it is read as a whole.
    place.registry.add("ubuntu:1", [small.layer(small.base_files() | extra)])
    right = place.plain("b")
    fetch = spans.fetch

    def late(*given: Any) -> Any:
        time.sleep(1)
        return fetch(*given)

    monkeypatch.setattr(spans, "fetch", late)
    place.registry.ranges = False
    cold = place.fresh("cold")
    found = place.extract("b", "--index-from", index, "--cache-dir", cold)
    assert (found.result, len(found.warnings)) == (right.result, 1)
    (cold / "results").rename(cold / "gone")
    assert place.extract("b", "--cache-dir", cold).result == right.result


def test_redirected_spans(indexed: tuple[Place, Path, dict[str, bytes]]) -> None:
    place, index, right = indexed
    storage = fake_registry.FakeRegistry()
    try:
        storage.blobs = place.registry.blobs
        place.registry.fault("/triton/blobs/", fake_registry.redirect(storage.url), times=99)
        found = place.extract("a", "--index-from", index, "--cache-dir", place.fresh("cold"))
        assert (found.tree, found.warnings) == (right, [])
        assert any("range" in each.headers for each in storage.requests)
    finally:
        storage.close()


def test_an_index_for_a_source_on_disk(indexed: tuple[Place, Path, dict[str, bytes]]) -> None:
    place, index, _ = indexed
    layout = place.folder / "layout"
    media_type, manifest = place.registry.manifests["triton:a"]
    entry = {"mediaType": media_type, "digest": oci.sha256(manifest), "size": len(manifest)}
    files = {digest[7:]: data for digest, data in place.registry.blobs.items()}
    (layout / "blobs/sha256").mkdir(parents=True)
    for name, data in (files | {entry["digest"][7:]: manifest}).items():
        (layout / "blobs/sha256" / name).write_bytes(data)
    (layout / "oci-layout").write_text('{"imageLayoutVersion": "1.0.0"}')
    (layout / "index.json").write_text(json.dumps({"schemaVersion": 2, "manifests": [entry]}))
    source = "--source", f"oci:{layout}"
    right = place.extract("a", *source, "--cache-dir", place.fresh("right"))
    found = place.extract("a", *source, "--index-from", index, "--cache-dir", place.fresh("cold"))
    assert (found.status, found.tree) == (0, right.tree)
    assert len(found.warnings) == 1


@pytest.mark.parametrize("what", ["files", "points", "types", "negative", "listing", "missing"])
def test_a_wrong_index(indexed: tuple[Place, Path, dict[str, bytes]], what: str) -> None:
    place, path, right = indexed
    document = json.loads(small.tiny.zstd.decompress(path.read_bytes()))
    for layer in document["layers"].values():
        files = layer["files"]
        for name, (offset, size, sha256, end) in list(files.items()):
            if what == "files":
                files[name] = [offset + 512, size, sha256, end]
            elif what == "types":
                files[name] = ["a", None, 3, [end]]
            elif what == "negative":
                files[name] = [-offset - 5, -size, sha256, -end]
            elif what == "missing" and name == LIBRARY:
                del files[name]
        if what == "points":
            layer["points"] = [[p + 3, 5, plain, w] for p, _, plain, w in layer["points"]]
        elif what == "listing":
            layer["listing"]["members"] = [[1, 2, 3]]
    path.write_bytes(small.tiny.zstd.compress(json.dumps(document).encode()))
    found = place.extract("a", "--index-from", path, "--cache-dir", place.fresh("cold"))
    if found.status:
        assert [line[:11] for line in found.said[-1:]] == ["assembler: "]
        assert what in ("types", "negative", "listing")
    else:
        assert found.tree == right
        assert len(found.warnings) == (what != "missing")


def test_garbage_and_another_image(indexed: tuple[Place, Path, dict[str, bytes]]) -> None:
    place, path, _ = indexed
    whole = path.read_bytes()
    place.image("other", small.layer(small.full_files()))
    cold = place.fresh("cold")
    for data, tag, line in (
        (b"rubbish", "a", "no seek index"),
        (b"", "a", "no seek index"),
        (whole[: len(whole) // 2], "a", "no seek index"),
        (small.tiny.zstd.compress(b"[]"), "a", "no seek index"),
        (whole, "other", "of another image"),
    ):
        path.write_bytes(data)
        found = place.extract(tag, "--index-from", path, "--cache-dir", cold)
        assert (found.status, found.tree) == (1, {})
        assert line in found.said[-1]


def test_cached_index_of_an_older_form_is_thrown_away(place: Place) -> None:
    from assembler.caching.cache import Cache

    place.extract("a", "--index")
    (kept,) = (place.cache / "indexes").iterdir()
    Cache(place.cache, print).put(f"indexes/{kept.name}", small.tiny.zstd.compress(b'{"form": 0}'))
    right = place.plain("a", "--backend", "python").tree
    found = place.extract("a", "--backend", "python")
    assert (found.status, found.tree, len(found.warnings)) == (0, right, 0)


def test_index_with_a_warm_cache(place: Place) -> None:
    place.extract("a")
    right = place.plain("a").tree
    found = place.extract("a", "--index")
    assert found.tree == right
    cold = place.fresh("cold")
    (kept,) = (place.cache / "indexes").iterdir()
    (cold / "indexes").mkdir()
    (cold / "indexes" / kept.name).write_bytes(kept.read_bytes())
    found = place.extract("a", "--cache-dir", cold)
    assert (found.tree, found.warnings) == (right, [])
    assert all("range" in each.headers for each in place.registry.seen("/triton/blobs/")[1:])


@pytest.mark.parametrize("how", ["zstd", "", "members"])
def test_layers_of_other_kinds_beside_gzip(place: Place, how: str) -> None:
    place.image("z", place.layers[1], how=how)
    manifest = json.loads(place.registry.manifests["triton:a"][1])
    other = json.loads(place.registry.manifests["triton:z"][1])
    manifest["layers"][1] = other["layers"][0]
    place.put("mixed", manifest)
    right = place.plain("mixed")
    assert right.status == 0
    index = place.index("mixed")
    found = place.extract("mixed", "--index-from", index, "--cache-dir", place.fresh("cold"))
    assert (found.tree, found.warnings) == (right.tree, [])
    assert all("range" in each.headers for each in place.registry.seen("/triton/blobs/")[1:])


# -- resume --------------------------------------------------------------------------------


def test_a_connection_that_breaks_in_a_layer(place: Place) -> None:
    digest = json.loads(place.registry.manifests["triton:a"][1])["layers"][1]["digest"]
    size = len(place.registry.blobs[digest])
    place.registry.fault(digest, fake_registry.cut(size // 2))
    found = place.extract("a")
    assert (found.status, found.warnings) == (0, [])
    first, second = place.registry.seen(digest)
    start = int(second.headers["range"].removeprefix("bytes=").partition("-")[0])
    assert "range" not in first.headers and start == size // 2


def test_layers_of_a_run_that_failed_are_not_fetched_again(place: Place) -> None:
    layers = json.loads(place.registry.manifests["triton:a"][1])["layers"]
    place.registry.fault(layers[2]["digest"], fake_registry.status(404), times=9)
    assert place.extract("a").status == 1
    place.registry.faults.clear()
    done = list(place.cache.rglob("listing-*"))
    assert place.extract("a").status == 0
    fetched = [each for each in place.blobs() if layers[2]["digest"] not in each]
    assert len(fetched) <= 3 - len(done)


# -- wheels --------------------------------------------------------------------------------


def test_a_damaged_wheel_is_fetched_again(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    right = place.extract("a")
    index = small.wheel(place.folder / "index").parent
    monkeypatch.setenv("PIP_FIND_LINKS", str(index))
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    (wheel,) = (place.cache / "wheels").glob("*.whl")
    for how in ("truncate", "flip"):
        for path in (place.cache / "results").iterdir():
            path.unlink()
        damage(wheel, how)
        found = place.extract("a")
        assert (found.status, found.tree) == (0, right.tree), found.said
        assert len(found.warnings) <= 1
        assert wheel.read_bytes() == (index / wheel.name).read_bytes()
