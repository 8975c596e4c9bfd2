"""Images for arm64 made on whatever machine this is, without emulation: nothing of them is run."""

from __future__ import annotations

from pathlib import Path

import pytest

from assembler import cli
from assembler.view import View
from tests.integration import small
from tests.releases import arm64, layouts
from tests.releases.layouts import OPT
from tests.releases.looking import brought, unresolved, view
from tests.releases.parts import AMD64, ARM64


@pytest.fixture(scope="module")
def images(work: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """The full image and the base, each an index of two platforms; arm64's files are real."""
    where = tmp_path_factory.mktemp("arm64")
    full, base = where / "full", where / "base"
    arm64.build(work, full, base)
    arm64.join(full, layouts.full(where / "amd64", "24.05", AMD64))
    arm64.join(base, layouts.base(where, "22.04", AMD64))
    return full, base


@pytest.fixture(scope="module")
def made(images: tuple[Path, Path], tmp_path_factory: pytest.TempPathFactory) -> View:
    where = tmp_path_factory.mktemp("made")
    extract(images, where / "out", "linux/arm64")
    return view(f"oci:{where / 'out'}", ARM64, where / "view")


def extract(images: tuple[Path, Path], out: Path, *platforms: str) -> None:
    full, base = images
    words = [word for platform in platforms for word in ("--platform", platform)]
    status = cli.run(
        ["extract", "24.05", "--source", f"oci:{full}", "--base", f"oci:{base}", *words,
         "--backend", "python", "--quiet", "--output", str(out)]
    )  # fmt: skip
    assert status == 0


def test_all_of_it_is_for_arm64(made: View) -> None:
    assert (made.config["os"], made.config["architecture"]) == ("linux", "arm64")
    others = {path for path, found in brought(made) if found.machine != "aarch64"}
    assert others == set()
    assert sum(1 for _ in brought(made)) > 100


def test_the_loader_finds_everything(made: View) -> None:
    assert made.tree.resolve("lib/ld-linux-aarch64.so.1") is not None
    # numpy's libraries find each other by what they inherit, on every machine alike.
    own = [line for line in unresolved(made, ARM64) if "/numpy" not in line]
    assert own == []


def test_cuda_comes_from_its_own_place(made: View) -> None:
    assert made.tree["usr/lib/aarch64-linux-gnu/libcudart.so.12"].link == (
        "/usr/local/cuda-12.4/targets/sbsa-linux/lib/libcudart.so.12"
    )
    assert made.tree.resolve("usr/lib/aarch64-linux-gnu/libcudart.so.12") == (
        "usr/local/cuda-12.4/targets/sbsa-linux/lib/libcudart.so.12.4.127"
    )
    assert made.tree.resolve("usr/lib/aarch64-linux-gnu/libdcgm.so.3") is not None
    assert f"{OPT}/backends/python/triton_python_backend_stub" in made.tree


def test_numpy_is_the_one_for_arm64(made: View) -> None:
    tags = made.read_text("usr/local/lib/python3.11/dist-packages/numpy-1.26.4.dist-info/WHEEL")
    assert "aarch64" in (tags or "")


def test_an_image_that_names_the_wrong_machine(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """As the 23.04-tf2 one did (server #5717)."""
    full = small.full(tmp_path / "full", architecture="arm64")
    base = small.base(tmp_path / "base", architecture="arm64")
    status = cli.run(
        ["extract", "--source", f"oci:{full}", "--base", f"oci:{base}", "--offline",
         "--platform", "linux/arm64", "--quiet", "--output", str(tmp_path / "out")]
    )  # fmt: skip
    assert status == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert (
        "says that it is for arm64, but its /opt/tritonserver/bin/tritonserver is for x86" in line
    )
