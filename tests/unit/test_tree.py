"""Layer semantics: what a stack of layers comes to (image-spec layer.md, and who got it wrong)."""

from __future__ import annotations

import tarfile
from pathlib import Path
from typing import Any

import pytest

from assembler.errors import SourceError, VerificationError
from assembler.tree import matcher
from tests.unit.building import device, dump, folder, hard, merged, reg, sym, tar

CASES: list[tuple[str, list[list[Any]], dict[str, str]]] = [
    (
        "a whiteout hides the lower file and is not itself seen",
        [[reg("a/x", "1"), reg("a/y", "2")], [reg("a/.wh.x")]],
        {"a": "dir", "a/y": "file 2"},
    ),
    (
        "a whiteout does not hide what its own layer brings",
        [[reg("a/x", "1")], [reg("a/x", "new"), reg("a/.wh.x")]],
        {"a": "dir", "a/x": "file new"},
    ),
    (
        "a whiteout of a folder hides all below it",
        [[reg("a/b/c/d", "1")], [reg("a/.wh.b")]],
        {"a": "dir"},
    ),
    (
        "an opaque mark acts before its layer's entries, wherever it stands (ggcr #1897)",
        [[reg("d/old", "1")], [reg("d/new", "2"), reg("d/.wh..wh..opq")]],
        {"d": "dir", "d/new": "file 2"},
    ),
    (
        "rm -rf d, then mkdir d in a later layer: old children do not return (ggcr #2029)",
        [[reg("d/old", "1")], [reg(".wh.d")], [folder("d", 0o700)]],
        {"d": "dir 0700"},
    ),
    (
        "a folder over a folder merges children and replaces its mode",
        [[folder("d", 0o700), reg("d/x", "1")], [folder("d", 0o711), reg("d/y", "2")]],
        {"d": "dir 0711", "d/x": "file 1", "d/y": "file 2"},
    ),
    (
        "a file where a folder was hides the folder's children",
        [[reg("d/x/y", "1")], [reg("d", "file now")]],
        {"d": "file file now"},
    ),
    (
        "a folder implied by a child replaces the file that was there",
        [[reg("d", "1")], [reg("d/x", "2")]],
        {"d": "dir", "d/x": "file 2"},
    ),
    (
        "a rewrite of one hardlink's name leaves the other as it was (ggcr #2002)",
        [[reg("a", "1"), hard("b", "a")], [reg("a", "2")]],
        {"a": "file 2", "b": "file 1"},
    ),
    (
        "a hardlink before its target in the tar",
        [[hard("b", "a"), reg("a", "1")]],
        {"a": "file 1", "b": "file 1"},
    ),
    (
        "a hardlink to a file of a lower layer",
        [[reg("a", "1")], [hard("b", "a")]],
        {"a": "file 1", "b": "file 1"},
    ),
    (
        "a hardlink to a symlink is that symlink (umoci, TypeLink)",
        [[reg("t", "1"), sym("l", "t"), hard("h", "l")]],
        {"t": "file 1", "l": "symlink t", "h": "symlink t"},
    ),
    (
        "a path through a symlinked parent lands behind the link (jib FAQ: /lib -> usr/lib)",
        [[folder("usr/lib"), sym("lib", "usr/lib")], [reg("lib/x", "1")]],
        {"usr": "dir", "usr/lib": "dir", "lib": "symlink usr/lib", "usr/lib/x": "file 1"},
    ),
    (
        "an explicit folder entry replaces the link of that name",
        [[folder("usr/lib"), sym("lib", "usr/lib")], [folder("lib"), reg("lib/x", "1")]],
        {"usr": "dir", "usr/lib": "dir", "lib": "dir", "lib/x": "file 1"},
    ),
    (
        "a whiteout through a symlinked parent",
        [[reg("usr/lib/x", "1"), sym("lib", "usr/lib")], [reg("lib/.wh.x")]],
        {"usr": "dir", "usr/lib": "dir", "lib": "symlink usr/lib"},
    ),
    (
        "absolute links stay absolute (ggcr #2238)",
        [[sym("l", "/a/b"), reg("a/b", "1")]],
        {"a": "dir", "a/b": "file 1", "l": "symlink /a/b"},
    ),
    (
        "./ and / before names, and an entry of the root itself, are legal",
        [[folder("./"), reg("./a", "1"), reg("/b", "2")]],
        {"a": "file 1", "b": "file 2"},
    ),
    (
        "the last of two entries of one name in a layer wins",
        [[reg("a", "1"), reg("a", "2")]],
        {"a": "file 2"},
    ),
    (
        "names over 100 characters, as PAX and GNU write them",
        [[reg("n" * 150 + "/x", "1")]],
        {"n" * 150: "dir", "n" * 150 + "/x": "file 1"},
    ),
    (
        "devices are listed, so that a selection can refuse them",
        [[device("dev/null")]],
        {"dev": "dir", "dev/null": "other 0600"},
    ),
]


@pytest.mark.parametrize("form", [tarfile.PAX_FORMAT, tarfile.GNU_FORMAT])
@pytest.mark.parametrize(("summary", "layers", "want"), CASES, ids=[case[0] for case in CASES])
def test_layers_merge(
    summary: str, layers: list[list[Any]], want: dict[str, str], form: int, tmp_path: Path
) -> None:
    found = dump(*merged(tmp_path, *(tar(*entries, form=form) for entries in layers)))
    assert found == want, summary


REFUSED = [
    ("a name that leaves the image (ggcr #2227)", [reg("../x")], "leaves the image"),
    ("a hardlink that leaves the image", [hard("x", "../../etc/shadow")], "leaves the image"),
    ("a whiteout of nothing (umoci)", [reg("a/.wh.")], "whiteout of nothing"),
    ("a hardlink to nothing", [hard("x", "gone")], "in no layer up to it"),
]


@pytest.mark.parametrize(("entries", "says"), [c[1:] for c in REFUSED], ids=[c[0] for c in REFUSED])
def test_refused(entries: list[Any], says: str, tmp_path: Path) -> None:
    with pytest.raises(SourceError, match=says):
        merged(tmp_path, tar(*entries))


def test_links_are_followed_as_the_kernel_does(tmp_path: Path) -> None:
    tree, _ = merged(
        tmp_path,
        tar(
            reg("usr/lib/libx.so.1.2", "x"),
            sym("usr/lib/libx.so.1", "libx.so.1.2"),
            sym("lib", "usr/lib"),
            sym("etc/alternatives/x", "/lib/libx.so.1"),
            sym("usr/lib/libx.so", "../../etc/alternatives/x"),
            sym("loop", "loop"),
            sym("up", "../../../usr/lib/libx.so.1"),
        ),
    )
    assert tree.resolve("lib/libx.so") == "usr/lib/libx.so.1.2"
    assert tree.physical("lib/libx.so") == "usr/lib/libx.so"
    assert tree.resolve("loop") is None
    assert tree.resolve("up") == "usr/lib/libx.so.1.2", "`..` stops at the root"
    assert tree.resolve("usr/lib/libx.so.1.2/x") is None
    assert tree.chain("lib/libx.so") == [
        "usr/lib/libx.so",
        "etc/alternatives/x",
        "usr/lib/libx.so.1",
        "usr/lib/libx.so.1.2",
    ]


def test_globs() -> None:
    fits = matcher(["a/*.so", "b/**", "**/x.pyc", "c/{one,two*}/[!z]?"]).fullmatch
    for path in ("a/l.so", "b/c/d", "x.pyc", "q/r/x.pyc", "c/two9/ab"):
        assert fits(path), path
    for path in ("a/b/l.so", "b", "xx.pyc", "c/three/ab", "c/one/zb"):
        assert not fits(path), path
    odd = matcher(["a[z-a]b", "c[[&]"]).fullmatch
    assert odd("c[") and odd("c&") and not odd("azb")


# -- damage ------------------------------------------------------------------------------------

WHOLE = tar(reg("a", "1"), reg("b", "2"), reg(".wh.hidden"), reg("c", "3"))


@pytest.mark.parametrize(
    ("data", "why"),
    [
        (WHOLE[:1024] + b"x" + WHOLE[1025:], "bad checksum"),
        (WHOLE[:1024] + bytes(512) + WHOLE[1024:], "zeros between its members"),
        (WHOLE[:1124], "truncated header"),
        (tar(reg("a", "1"), reg("b", **{"GNU.sparse.map": "x,y"})), "invalid literal"),
    ],
)
def test_a_broken_header_is_not_the_end(tmp_path: Path, data: bytes, why: str) -> None:
    with pytest.raises(VerificationError, match=f"is not a readable tar: .*{why}"):
        merged(tmp_path, data)


@pytest.mark.parametrize("data", [WHOLE[:1024], WHOLE[:1024] + bytes(512), WHOLE + bytes(9000)])
def test_what_ends_a_layer(tmp_path: Path, data: bytes) -> None:
    assert "a" in dump(*merged(tmp_path, data))
