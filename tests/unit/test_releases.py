"""The table of releases, and what is said of an image that it does not know."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from assembler import releases, wheels
from assembler.errors import SelectionError, UsageError
from assembler.view import View
from tests.conftest import assembler, run
from tests.integration import small
from tests.unit.building import MemorySource, reg, sym, tar


def view(tmp_path: Path, name: str, version: str) -> View:
    text = f'PRETTY_NAME="{name}"\nNAME="{name}"\nVERSION_ID="{version}"\n'
    entries = [sym("etc/os-release", "../usr/lib/os-release"), reg("usr/lib/os-release", text)]
    folder = tmp_path / f"{name}{version}"
    folder.mkdir()
    return View.of(MemorySource(tar(*entries)), folder, lambda _: True)


def test_the_list_knows_every_month_from_22_12_to_26_08() -> None:
    rows = json.loads(assembler("releases", "--json"))
    months = [f"{y}.{m:02}" for y in range(22, 27) for m in range(1, 13)]
    wanted = months[months.index("22.12") : months.index("26.08") + 1]
    assert [row["release"] for row in rows] == wanted
    by_name = {row["release"]: row for row in rows}
    assert by_name["24.05"] | {"size_mb": 0} == {
        "release": "24.05", "triton": "2.46.0", "ubuntu": "22.04", "python": "3.10",
        "onnxruntime": "1.18.0", "numpy": {"default": "1.26.4", "takes_2": False}, "size_mb": 0,
        "source": "nvcr.io/nvidia/tritonserver:24.05-py3",
    }  # fmt: skip
    assert by_name["23.04"]["numpy"]["default"] == "1.24.4", "the last one for Python 3.8"
    assert by_name["24.11"]["numpy"] == {"default": "1.26.4", "takes_2": True}


def test_the_list_as_a_table() -> None:
    lines = assembler("releases").splitlines()
    assert len(lines) == 46
    assert lines[-1].split()[:5] == ["26.08", "2.72.0", "24.04", "3.12", "1.28.0"]


@pytest.mark.parametrize(
    ("release", "base"),
    [("22.12", "20.04"), ("23.04", "20.04"), ("23.05", "22.04"), ("24.10", "22.04"),
     ("24.11", "24.04"), ("26.08", "24.04"), ("27.01", "24.04")],
)  # fmt: skip
def test_the_base_of_a_release(release: str, base: str) -> None:
    assert releases.default_base(release, {}) == f"ubuntu:{base}"


def test_the_image_names_its_base_where_the_table_does_not() -> None:
    labels = {
        "org.opencontainers.image.ref.name": "ubuntu",
        "org.opencontainers.image.version": "26.04",
    }
    assert releases.default_base("27.01", labels) == "ubuntu:26.04"
    assert releases.default_base("24.05", labels) == "ubuntu:22.04"
    assert releases.default_base("27.01", labels | {"org.opencontainers.image.version": "2.9"}) == (
        "ubuntu:24.04"
    )


def test_numpy_2_from_24_11_on() -> None:
    releases.check_numpy("2.1.3", "24.11")
    releases.check_numpy("1.25.2", "24.10")
    with pytest.raises(SelectionError, match=r"numpy 2\.0\.2 does not work with Triton 24\.10"):
        releases.check_numpy("2.0.2", "24.10")


@pytest.mark.parametrize("text", ["22.11", "24.5", "24.13", "latest"])
def test_what_is_no_release(text: str) -> None:
    with pytest.raises(UsageError):
        releases.check(text)


def test_another_base_is_remarked_upon(tmp_path: Path) -> None:
    full, base = view(tmp_path, "Ubuntu", "22.04"), view(tmp_path, "Ubuntu", "24.04")
    assert list(releases.remarks("24.05", full, full)) == []
    (line,) = releases.remarks("24.05", full, base)
    assert "was built on Ubuntu 22.04, the base is Ubuntu 24.04" in line


def test_a_release_newer_than_the_table_works_and_says_so(tmp_path: Path) -> None:
    env = [e.replace("24.05", "27.01") for e in small.ENV]
    full = small.full(tmp_path / "full", config={"Env": env})
    base = small.base(tmp_path / "base")
    small.wheel(tmp_path / "cache" / "wheels")
    done = run("extract", "27.01", "--source", f"oci:{full}", "--base", f"oci:{base}",
               "--cache-dir", tmp_path / "cache", "--offline", "--output", tmp_path / "out",
               "--quiet")  # fmt: skip
    assert done.returncode == 0, done.stderr
    (line,) = done.stderr.splitlines()
    assert "release 27.01 is newer than what is known here (up to 26.08)" in line


@pytest.mark.parametrize(
    ("given", "version"),
    [("1.26.4", "1.26.4"), ("1.26", "1.26.0"), ("v1.26.4", "1.26.4"), ("2.0.0rc1", "2.0.0rc1")],
)
def test_a_version_of_numpy_is_written_as_its_wheels_have_it(given: str, version: str) -> None:
    assert wheels.check_version(given) == version
