"""Locks: one form for the same inputs, and one line for what is none."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from assembler import oci
from assembler.papers import lock
from assembler.papers.lock import Lock, LockError, Pinned
from assembler.wheels import Pin

HEX = "ab" * 32
LOCK = Lock(
    release="24.05",
    platform="linux/amd64",
    backends=("onnxruntime", "python"),
    keep=(),
    builder="direct",
    numpy="",
    mtime=1716595200,
    assembler="0.1.0",
    source=Pinned("nvcr.io/nvidia/tritonserver:24.05-py3", f"sha256:{HEX}", f"sha256:{HEX}"),
    base=Pinned('oci:/a "b" \\ ü', f"sha256:{HEX}"),
    wheels={"numpy": Pin("1.26.4", "numpy-1.26.4-py3-none-any.whl", HEX)},
    files={"Dockerfile": HEX, "stages/python.toml": HEX},
    formats={"gzip": "isal 1.7", "tar": "pax"},
)


def written(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "assembler.lock"
    path.write_text(text)
    return path


def test_what_is_written_is_read_again(tmp_path: Path) -> None:
    for each in (LOCK, replace(LOCK, wheels={}), replace(LOCK, backends=(), keep=("openvino",))):
        text = lock.render(each)
        assert lock.read(written(tmp_path, text)) == each
        assert lock.render(lock.read(written(tmp_path, text))) == text


def test_the_order_of_what_is_found_does_not_show() -> None:
    turned = replace(LOCK, files=dict(reversed(LOCK.files.items())))
    assert lock.render(turned) == lock.render(LOCK)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda t: t.replace('"24.05"', '"24.06"'), "was edited: its checksum does not fit"),
        (lambda t: t.replace("1716595200", '"1716595200"'), "malformed at mtime"),
        (lambda t: t.replace("1716595200", "1716595201"), "was edited"),
        (lambda t: t.replace("release = ", "relase = "), "malformed at relase"),
        (lambda t: t.replace("[wheels.numpy]", "[wheel.numpy]"), "malformed at 'wheels'"),
        (lambda t: t.replace("[wheels.numpy]", "wheels = 3\n[x]"), "malformed"),
        (lambda t: t.replace('"linux/amd64"', '"linux"'), "malformed at platform 'linux'"),
        (lambda t: t.replace(f"config = \"sha256:{HEX}", 'config = "'), "malformed at a config's"),
        (lambda t: t.replace("format = 1", "format = 2"), "no lock of format 1"),
        (lambda t: t.replace("checksum", "# checksum"), "no lock of format 1"),
        (lambda t: t[: len(t) // 2], ""),
        (lambda t: t[:0], "no lock of format 1"),
        (lambda t: "<html>" + t, "is no lock"),
        (lambda t: t.replace("[source]", "[source]\nextra = 1"), "malformed at source.extra"),
    ],
)  # fmt: skip
def test_what_is_no_lock_is_refused_in_one_line(tmp_path: Path, change, said: str) -> None:
    path = written(tmp_path, change(lock.render(LOCK)))
    with pytest.raises(LockError) as caught:
        lock.read(path)
    assert said in str(caught.value) and "\n" not in str(caught.value)
    assert str(path) in str(caught.value)


def test_one_that_was_edited_can_be_renewed(tmp_path: Path) -> None:
    text = lock.render(LOCK).replace('["onnxruntime", "python"]', '["python"]')
    assert lock.read(written(tmp_path, text), edited=True).backends == ("python",)


def test_all_differences_are_named_at_once() -> None:
    other = f"sha256:{'cd' * 32}"
    now = replace(
        LOCK,
        backends=("python",),
        numpy="1.25.2",
        source=replace(LOCK.source, digest=other, config=other),
        base=replace(LOCK.base, digest=other),
        files={"Dockerfile": "cd" * 32, "stages/mine.toml": HEX},
        formats={"gzip": "isal 1.8", "tar": "pax"},
    )
    with pytest.raises(LockError) as caught:
        lock.check(LOCK, now)
    name = LOCK.source.name
    assert str(caught.value).splitlines() == [
        "the lock does not fit:",
        "  backends is python, the lock has onnxruntime, python",
        "  numpy is 1.25.2, the lock has 1.26.4",
        f"  source {name} has config {other}, the lock has sha256:{HEX}",
        f"  source {name} has digest {other}, the lock has sha256:{HEX}",
        "  Dockerfile is sha256 cdcdcdcdcdcd…, the lock has sha256 abababababab…",
        "  stages/mine.toml is not in the lock",
        "  stages/python.toml is not used, the lock has sha256 abababababab…",
        "  gzip is isal 1.8, the lock has isal 1.7",
    ]


def test_an_image_in_a_registry_is_read_by_its_digest() -> None:
    assert LOCK.source.address == f"nvcr.io/nvidia/tritonserver:24.05-py3@sha256:{HEX}"
    again = Pinned(f"ubuntu@{oci.sha256(b'')}", f"sha256:{HEX}", f"sha256:{HEX}")
    assert again.address == f"ubuntu@sha256:{HEX}"
    assert LOCK.base.address == LOCK.base.name
