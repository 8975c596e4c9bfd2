"""`--platform` twice: an image for each and an index of them, of tiny images."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path

import pytest

from assembler import cli, oci
from tests.conftest import ROOT
from tests.integration import small
from tests.releases import arm64, layouts
from tests.releases.looking import view
from tests.releases.parts import AMD64, ARM64
from tests.standin.services import registry

BOTH = ("linux/amd64", "linux/arm64")


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of `full` and `base`, each an index of two platforms, and a `cache`."""
    where = tmp_path_factory.mktemp("platforms")
    for machine in (AMD64, ARM64):
        layouts.full(where / f"full-{machine.architecture}", "25.08", machine)
    arm64.join(where / "full-amd64", where / "full-arm64")
    (where / "full-amd64").rename(where / "full")
    base = layouts.base(where, "24.04", AMD64)
    arm64.join(base, layouts.base(where, "24.04", ARM64))
    base.rename(where / "base")
    layouts.base.cache_clear()
    small.wheel(where / "cache" / "wheels")
    return where


def run(images: Path, *more: str | Path, platforms: Iterable[str], base: Path | None = None) -> int:
    words = [word for platform in platforms for word in ("--platform", platform)]
    return cli.run(
        ["extract", "25.08", "--source", f"oci:{images / 'full'}", "--quiet", *words,
         "--base", f"oci:{base or images / 'base'}", "--cache-dir", str(images / "cache"),
         *map(str, more)]
    )  # fmt: skip


def extract(images: Path, out: Path, *platforms: str, base: Path | None = None) -> int:
    return run(images, "--offline", "--output", out, platforms=platforms, base=base)


@pytest.mark.parametrize("name", ["out", "out.tar"])
def test_two_platforms_make_an_index(images: Path, name: str, tmp_path: Path) -> None:
    out = tmp_path / name
    assert extract(images, out, *BOTH) == 0
    assert [path.name for path in tmp_path.iterdir()] == [name], "nothing else is left"
    where = f"oci-archive:{out}" if name.endswith(".tar") else f"oci:{out}"
    for machine in (AMD64, ARM64):
        found = view(where, machine, tmp_path / machine.architecture)
        assert found.config["architecture"] == machine.architecture
        alone = tmp_path / f"alone-{machine.architecture}"
        assert extract(images, alone, f"linux/{machine.architecture}") == 0
        once = view(f"oci:{alone}", machine, tmp_path / f"once-{machine.architecture}")
        assert found.source.digest == once.source.digest, "as when it is made alone"
    done = subprocess.run(
        ["skopeo", "inspect", "--raw", f"{where}:25.08-onnxruntime-python-cpu"],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    platforms = [entry["platform"] for entry in json.loads(done.stdout)["manifests"]]
    assert [each["architecture"] for each in platforms] == ["amd64", "arm64"]
    subprocess.run(
        ["skopeo", "copy", "--quiet", "--all", f"{where}:25.08-onnxruntime-python-cpu",
         f"dir:{tmp_path / 'copy'}"],
        check=True,
    )  # fmt: skip


def raw(reference: str) -> str:
    return subprocess.run(
        ["skopeo", "inspect", "--tls-verify=false", "--raw", f"docker://{reference}"],
        capture_output=True, text=True, check=True,
    ).stdout  # fmt: skip


def test_two_platforms_are_pushed_as_an_index(images: Path, tmp_path: Path) -> None:
    with registry(tmp_path / "registry") as host:
        assert run(images, "--push", f"{host}/a:1", "--output", tmp_path / "o", platforms=BOTH) == 0
        assert run(images, "--push", f"{host}/b:1", platforms=BOTH) == 0
        assert raw(f"{host}/a:1") == raw(f"{host}/b:1")
        digest = oci.sha256(raw(f"{host}/a:1").encode())
        index = json.loads((tmp_path / "o" / "index.json").read_bytes())["manifests"]
        assert index[0]["digest"] == digest, "the same in a layout"
        for each in json.loads(raw(f"{host}/a:1"))["manifests"]:
            subprocess.run(
                ["skopeo", "copy", "--quiet", "--src-tls-verify=false",
                 f"docker://{host}/a@{each['digest']}",
                 f"dir:{tmp_path / each['platform']['architecture']}"],
                check=True,
            )  # fmt: skip
            beside = raw(f"{host}/a:{each['digest'].replace(':', '-')}")
            assert len(json.loads(beside)["manifests"]) == 3, (
                "record, bill of materials, provenance"
            )
        # One of them anew: the other stays where it is.
        assert run(images, "--push", f"{host}/a:1", "--multi-platform", platforms=BOTH[:1]) == 0
        assert raw(f"{host}/a:1") == raw(f"{host}/b:1")


def test_no_tag_before_all_platforms_are_there(
    images: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    base = layouts.base(tmp_path / "bases", "24.04", AMD64)
    with registry(tmp_path / "registry") as host:
        assert run(images, "--push", f"{host}/a:1", platforms=BOTH, base=base) == 1
        assert "has no image for linux/arm64; it has" in capsys.readouterr().err
        with pytest.raises(subprocess.CalledProcessError):
            raw(f"{host}/a:1")


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["extract"], "which the Engine cannot hold: write it to a folder"),
        (["extract", "--output", "o", "--record", "r"], "--record is of one image"),
        (["extract", "--output", "o", "--lock", "l"], "--lock is of one image"),
        (["extract", "--tag", "t", "--push", "h.test/x:1"], "which the Engine cannot hold"),
        (["plan"], "plan takes one --platform"),
    ],
)
def test_two_platforms_where_there_can_be_one(
    words: list[str], says: str, capsys: pytest.CaptureFixture[str]
) -> None:
    status = cli.run([*words, "--platform", "linux/amd64", "--platform", "linux/arm64"])
    assert status == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert says in line


def test_a_platform_that_the_base_has_not_leaves_nothing(
    images: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    base = layouts.base(tmp_path / "bases", "24.04", AMD64)
    (tmp_path / "place").mkdir()
    status = extract(images, tmp_path / "place" / "out", *BOTH, base=base)
    assert status == 1
    assert "has no image for linux/arm64; it has" in capsys.readouterr().err
    assert list((tmp_path / "place").iterdir()) == []


def test_the_second_platform_can_be_interrupted_as_the_first() -> None:
    code = (
        "import os, signal\nfrom assembler import interrupts\n"
        "interrupts.listen()\ninterrupts.finish()\ninterrupts.resume()\n"
        "try:\n    os.kill(os.getpid(), signal.SIGTERM)\n"
        "except interrupts.Stopped:\n    print('stopped')\n"
        "interrupts.resume()\nos.kill(os.getpid(), signal.SIGTERM)\nprint('once')\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT
    )
    assert done.stdout.split() == ["stopped", "once"]
