"""What an image is made of, and under which licences, by its own metadata."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from assembler.inspection.treemap import Box, squarify
from assembler.papers import components, licences
from assembler.view import View
from tests.unit.building import MemorySource, elf, reg, sym, tar

STATUS = (
    "Package: libssl3\nStatus: install ok installed\nArchitecture: amd64\nVersion: 1:3.0.2+b~1\n"
    "Maintainer: Some One <one@example.org>\n\n"
    "Package: gone\nStatus: deinstall ok config-files\nArchitecture: amd64\nVersion: 1\n\n"
)
DEP5 = "Format: https://www.debian.org/doc/packaging-manuals/copyright-format/1.0/\n\nLicense: {}\n"
ENV = {"NVIDIA_TRITON_SERVER_VERSION": "24.05", "TRITON_SERVER_VERSION": "2.46.0"}


def found(tmp_path: Path, *entries: Any) -> dict[str, dict[str, Any]]:
    view = View.of(MemorySource(tar(*entries)), tmp_path, lambda _: True)

    def content(path: str) -> Any:
        real = view.tree.resolve(path)
        return view.content(real) if real else None

    return {each["name"]: each for each in components.find(view.tree, content, ENV)}


def test_debian_packages_have_the_distribution_in_their_url(tmp_path: Path) -> None:
    got = found(
        tmp_path,
        reg("var/lib/dpkg/status", STATUS),
        reg("usr/lib/os-release", 'ID=ubuntu\nVERSION_ID="22.04"\n'),
        sym("etc/os-release", "../usr/lib/os-release"),
        reg("usr/share/doc/libssl3/copyright", DEP5.format("Expat or GPL-2+")),
    )
    assert list(got) == ["libssl3"]
    url = "pkg:deb/ubuntu/libssl3@1:3.0.2%2Bb~1?arch=amd64&distro=ubuntu-22.04"
    assert got["libssl3"]["purl"] == url
    assert got["libssl3"]["licences"] == ["GPL-2.0-or-later", "MIT"]


def test_python_packages_are_read_from_their_metadata(tmp_path: Path) -> None:
    folder = "usr/lib/python3/dist-packages"
    got = found(
        tmp_path,
        reg(f"{folder}/a-1.dist-info/METADATA",
            "Name: Some.Package\nVersion: 1.0\nLicense-Expression: MIT OR Apache-2.0\n\nX: no\n"),
        reg(f"{folder}/b.egg-info/PKG-INFO",
            "Name: b\nVersion: 2\nClassifier: License :: OSI Approved :: BSD License\n"),
        reg(f"{folder}/c.egg-info", "Name: c\nVersion: 3\nLicense: Apache-2.0\n"),
        reg(f"{folder}/d-1.dist-info/METADATA", "not metadata at all"),
    )  # fmt: skip
    assert got["Some.Package"]["purl"] == "pkg:pypi/some-package@1.0"
    assert [each["licences"] for each in got.values()] == [
        ["MIT OR Apache-2.0"], ["BSD"], ["Apache-2.0"]
    ]  # fmt: skip


def test_triton_and_libraries_that_no_package_owns(tmp_path: Path) -> None:
    opt = "opt/tritonserver"
    got = found(
        tmp_path,
        reg(f"{opt}/bin/tritonserver", "x"),
        reg(f"{opt}/TRITON_VERSION", "2.46.0\n"),
        reg(f"{opt}/backends/onnxruntime/libonnxruntime.so",
            elf(soname="libonnxruntime.so.1.18.0")),
        reg(f"{opt}/backends/mine/model.py", "x"),
        reg("usr/local/cuda-12.4/lib/libcudart.so.12.4.127", "x"),
        reg("usr/lib/libowned.so.1.2", "x"),
        reg("var/lib/dpkg/info/owned.list", "/.\n/lib/libowned.so.1.2\n"),
        reg("usr/lib/libplain.so", "x"),
        reg("usr/lib/libopenvino.so", elf(soname="libopenvino.so.2400")[:150]),
    )  # fmt: skip
    assert {name: each["version"] for name, each in got.items()} == {
        "tritonserver": "2.46.0",
        "onnxruntime_backend": "2.46.0",
        "mine_backend": "2.46.0",
        "CUDA Runtime": "12.4.127",
        "ONNX Runtime": "1.18.0",
        "OpenVINO": "",
    }
    assert got["tritonserver"]["purl"] == "pkg:github/triton-inference-server/server@r24.05"
    # Nothing is claimed of a backend that nobody knows.
    assert got["mine_backend"]["licences"] == [] and "purl" not in got["mine_backend"]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (DEP5.format("LGPL-2.1+"), ["LGPL-2.1-or-later"]),
        (DEP5.format("GPL-3 and BSD-3-clause"), ["BSD-3-Clause", "GPL-3.0-only"]),
        (DEP5.format("GPL-2+ or Artistic, and Expat,"), ["Artistic", "GPL-2.0-or-later", "MIT"]),
        (DEP5.format("Zlib\n text\nLicense: Odd-1"), ["Odd-1", "Zlib"]),
        ("This package was debianized by …\nLicense: GPL", []),
        ("", []),
    ],
)
def test_licences_of_debian_packages(text: str, expected: list[str]) -> None:
    assert licences.of_debian(text) == expected


def test_areas_fill_the_map_and_are_as_large_as_the_sizes() -> None:
    sizes = [500.0, 300, 120, 50, 20, 9, 1]
    boxes = squarify(sizes, Box(0, 0, 300, 100))
    areas = [box.width * box.height for box in boxes]
    assert areas == pytest.approx([30 * size for size in sizes])
    assert max(box.x + box.width for box in boxes) == pytest.approx(300)
    assert max(box.y + box.height for box in boxes) == pytest.approx(100)
    assert squarify([], Box(0, 0, 1, 1)) == []
