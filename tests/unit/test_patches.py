"""Patches: applied exactly, by release, or refused."""

from __future__ import annotations

from pathlib import Path

import pytest

from assembler import patches, resources
from assembler.errors import SelectionError
from assembler.rootfs import RootFS
from assembler.view import View
from tests.unit.building import MemorySource, reg, tar

DIFF = """--- a/opt/x.py
+++ b/opt/x.py
@@ -1,3 +1,4 @@
 one
+new
 two
 three
"""


def rootfs(tmp_path: Path, text: str) -> RootFS:
    for name in ("f", "b"):
        (tmp_path / name).mkdir()
    full = View.of(MemorySource(tar(reg("opt/x.py", text))), tmp_path / "f", lambda _: True)
    base = View.of(MemorySource(tar()), tmp_path / "b", lambda _: True)
    made = RootFS(base, full, tmp_path)
    made.take("opt/x.py", "s", "wanted")
    return made


def patch(tmp_path: Path, text: str) -> list[patches.Patch]:
    (tmp_path / "p").mkdir()
    (tmp_path / "p" / "mine.patch").write_text(text)
    return patches.load(tmp_path / "p")


def test_an_exact_fit_is_applied_and_recorded(tmp_path: Path) -> None:
    made = rootfs(tmp_path, "one\ntwo\nthree\nfour\n")
    mends = patch(tmp_path, "Releases: <24.11\nReason: to see\n it done\n" + DIFF)
    assert patches.apply(made, mends, "24.05") == ["mine.patch"]
    content = made.content("opt/x.py")
    assert content is not None
    assert content.read() == b"one\nnew\ntwo\nthree\nfour\n"
    assert made.nodes["opt/x.py"].reason == "wanted; patched by mine.patch: to see it done"
    assert patches.apply(made, mends, "24.11") == [], "not meant for that release"


@pytest.mark.parametrize("text", ["one\nTWO\nthree\n", "zero\none\ntwo\nthree\n", "one\n", ""])
def test_anything_else_is_refused(tmp_path: Path, text: str) -> None:
    mends = patch(tmp_path, "Releases: <24.11\nReason: r\n" + DIFF)
    with pytest.raises(SelectionError, match=r"mine.patch does not apply to /opt/x.py of 24.05"):
        patches.apply(rootfs(tmp_path, text), mends, "24.05")


@pytest.mark.parametrize(
    "text", [DIFF, "Releases: new\nReason: r\n" + DIFF, "Releases: >1\n" + DIFF]
)
def test_a_header_must_say_for_what_and_why(tmp_path: Path, text: str) -> None:
    with pytest.raises(SelectionError, match=r"mine\.patch"):
        patch(tmp_path, text)


def test_ours_are_for_every_release_that_cannot_take_numpy_2() -> None:
    ours = patches.load(resources.path("patches"))
    for release, wanted in {
        "22.12": ["numpy-guard-2022.patch"],
        "23.06": ["numpy-guard-2022.patch"],
        "23.07": ["numpy-guard.patch"],  # formatted by python_backend #265 on 2023-06-26
        "24.10": ["numpy-guard.patch"],
        "24.11": [],
    }.items():
        assert [p.name for p in ours if p.releases.contains(release)] == wanted, release
