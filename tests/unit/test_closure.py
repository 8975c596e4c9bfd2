"""Selection and closure on small images of hand-made packages and ELF files."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from assembler import assembly, stages
from assembler.caching.cache import Cache
from assembler.errors import SelectionError
from assembler.rootfs import RootFS
from assembler.view import View
from assembler.wheelhouse import Wheelhouse
from tests.unit.building import MemorySource, elf, reg, sym, tar

LIB = "usr/lib/x86_64-linux-gnu"
LOADER = "/lib64/ld-linux-x86-64.so.2"
STATUS = "Package: {0}\nStatus: install ok installed\nVersion: {1}\nArchitecture: amd64\n{2}\n\n"


def package(name: str, version: str = "1", more: str = "") -> str:
    return STATUS.format(name, version, more).replace("\n\n\n", "\n\n")


def base(*entries: Any, glibc: tuple[str, ...] = ("GLIBC_2.34", "GLIBC_2.35")) -> MemorySource:
    status = package("libc6", "2.35")
    return MemorySource(
        tar(
            reg("var/lib/dpkg/status", status),
            reg("lib64/ld-linux-x86-64.so.2", elf(soname="ld-linux-x86-64.so.2")),
            sym("lib", "usr/lib"),
            reg(f"{LIB}/libc.so.6", elf(soname="libc.so.6", offers=["libc.so.6", *glibc])),
            reg("bin/sh", "shell", 0o755),
            *entries,
        )
    )


def full(*entries: Any, status: str = "", config: dict[str, Any] | None = None) -> MemorySource:
    return MemorySource(
        tar(
            reg("var/lib/dpkg/status", package("libc6", "2.35") + status),
            sym("lib", "usr/lib"),
            *entries,
        ),
        config=config,
    )


def server(**given: Any) -> Any:
    return reg("opt/tritonserver/bin/tritonserver", elf(interpreter=LOADER, **given), mode=0o755)


def make(
    tmp_path: Path, full_: MemorySource, base_: MemorySource, *stage: str
) -> assembly.Assembly:
    """Assemble with these stage files (TOML texts) and no patches."""
    folder = tmp_path / "stages"
    folder.mkdir()
    for number, text in enumerate(stage):
        (folder / f"s{number}.toml").write_text(f'summary = "s"\norder = {number}\n{text}')
    (tmp_path / "f").mkdir()
    (tmp_path / "b").mkdir()
    recipe = assembly.Recipe(
        "24.05", stages.load([folder]), [], [], None, Cache(None, print), True, 0
    )
    return assembly.assemble(
        recipe,
        View.of(full_, tmp_path / "f", lambda _: False),
        View.of(base_, tmp_path / "b", lambda _: False),
        tmp_path,
        Wheelhouse(recipe, tmp_path, "x86_64"),
    )


SERVER = '[[take]]\npaths = ["opt/tritonserver/bin/tritonserver"]\n'
LIBRARIES = "libraries = true\n"


def paths(made: assembly.Assembly) -> dict[str, str]:
    nodes = [node for stage in made.stages for node in stage.nodes]
    return {node.path: node.link or node.reason for node in nodes if node.kind != "dir"}


def test_a_library_of_the_base_is_used_from_the_base(tmp_path: Path) -> None:
    image = full(
        server(needed=["libc.so.6", "libz.so.1"]), reg(f"{LIB}/libz.so.1", elf(soname="libz.so.1"))
    )
    made = make(tmp_path, image, base(reg(f"{LIB}/libz.so.1", elf(soname="libz.so.1"))), SERVER)
    assert list(paths(made)) == ["opt/tritonserver/bin/tritonserver"]


def test_a_needed_library_brings_its_links_and_is_linked_where_the_loader_looks(
    tmp_path: Path,
) -> None:
    cuda = "usr/local/cuda-12.4/targets/x86_64-linux/lib"
    image = full(
        server(needed=["libcudart.so.12"]),
        reg("etc/ld.so.conf", "include /etc/ld.so.conf.d/*.conf\n"),
        reg("etc/ld.so.conf.d/cuda.conf", f"/{cuda}\n"),
        sym(f"{cuda}/libcudart.so.12", "libcudart.so.12.4"),
        reg(f"{cuda}/libcudart.so.12.4", elf(soname="libcudart.so.12")),
    )
    made = make(tmp_path, image, base(), LIBRARIES, SERVER)
    found = paths(made)
    assert found[f"{cuda}/libcudart.so.12"] == "libcudart.so.12.4"
    assert found[f"{LIB}/libcudart.so.12"] == f"/{cuda}/libcudart.so.12"
    assert "needed by /opt/tritonserver/bin/tritonserver" in found[f"{cuda}/libcudart.so.12.4"]


def test_a_library_for_another_machine_is_passed_over(tmp_path: Path) -> None:
    old = "usr/lib/i386-linux-gnu"
    listed = "Architecture: i386\nMulti-Arch: same"
    image = full(
        server(needed=["liba.so.1", "libb.so.1"]),
        reg("etc/ld.so.conf", f"/{old}\n/opt/b\n"),
        reg(f"{old}/liba.so.1", elf(soname="liba.so.1", machine=3)),
        reg(f"{LIB}/liba.so.1", elf(soname="liba.so.1")),
        reg(f"{old}/libb.so.1", elf(soname="libb.so.1", machine=3)),
        reg("opt/b/libb.so.1", elf(soname="libb.so.1")),
        reg("var/lib/dpkg/info/liba1:amd64.list", f"/{LIB}/liba.so.1\n"),
        reg("var/lib/dpkg/info/liba1:i386.list", f"/{old}/liba.so.1\n"),
        status=package("liba1", "3", "Architecture: amd64")
        + package("liba1", "3", f"{listed}\nDepends: strange")
        + package("strange", "1", "Architecture: amd64"),
    )
    made = make(tmp_path, image, base(), LIBRARIES, SERVER)
    found = paths(made)
    assert f"{LIB}/liba.so.1" in found
    assert found[f"{LIB}/libb.so.1"] == "/opt/b/libb.so.1"
    assert [path for path in found if "i386" in path] == []
    assert set(made.packages) == {"liba1"}


def test_a_library_for_another_machine_alone_is_missing(tmp_path: Path) -> None:
    image = full(
        server(needed=["liba.so.1"]),
        reg("usr/lib/i386-linux-gnu/liba.so.1", elf(soname="liba.so.1", machine=3)),
    )
    with pytest.raises(SelectionError, match=r"needs liba\.so\.1, .* full image for x86_64"):
        make(tmp_path, image, base(), LIBRARIES, SERVER)


def test_a_library_of_a_package_brings_the_package_with_what_that_needs(tmp_path: Path) -> None:
    image = full(
        server(needed=["liba.so.1"]),
        reg(f"{LIB}/liba.so.1", elf(soname="liba.so.1")),
        reg(f"{LIB}/libdata.so", "not loaded by name"),
        reg("var/lib/dpkg/info/liba1:amd64.list", f"/.\n/usr\n/lib\n/{LIB}\n/{LIB}/liba.so.1\n"),
        reg("var/lib/dpkg/info/libdata.list", f"/lib/{LIB.rpartition('/')[2]}/libdata.so\n"),
        status=package("liba1", "3", "Depends: libc6 (>= 2.2), libdata (= 1) | other")
        + package("libdata")
        + package("unwanted"),
    )
    made = make(tmp_path, image, base(), LIBRARIES, SERVER)
    found = paths(made)
    assert f"{LIB}/liba.so.1" in found
    assert f"{LIB}/libdata.so" in found, "listed under /lib, which is a link"
    status = made.rootfs.content("var/lib/dpkg/status")
    assert status is not None
    text = status.read().decode()
    assert [line[9:] for line in text.splitlines() if line.startswith("Package: ")] == [
        "libc6",
        "liba1",
        "libdata",
    ]


def test_rpath_is_handed_down_and_runpath_is_not(tmp_path: Path) -> None:
    wheel = '[[take]]\npaths = ["w/**"]\n'
    image = full(
        server(needed=["libc.so.6"]),
        reg("w/ext.so", elf(needed=["liba.so"], rpath="$ORIGIN/libs")),
        reg("w/libs/liba.so", elf(soname="liba.so", needed=["libb.so"])),
        reg("w/libs/libb.so", elf(soname="libb.so")),
    )
    made = make(tmp_path, image, base(), LIBRARIES, SERVER, wheel)
    assert f"{LIB}/libb.so" not in paths(made)


def test_a_plug_in_is_served_by_what_its_server_has_loaded(tmp_path: Path) -> None:
    image = full(
        server(needed=["libtritonserver.so"], runpath="${ORIGIN}/../lib"),
        reg("opt/tritonserver/lib/libtritonserver.so", elf(soname="libtritonserver.so")),
        reg("opt/tritonserver/backends/x/libtriton_x.so", elf(needed=["libtritonserver.so"])),
    )
    made = make(tmp_path, image, base(), '[[take]]\npaths = ["opt/tritonserver/**"]\n')
    assert f"{LIB}/libtritonserver.so" not in paths(made)


def test_an_interpreter_that_a_script_names_is_taken(tmp_path: Path) -> None:
    image = full(
        server(needed=[]),
        reg("usr/bin/tool", "#!/usr/bin/env -S python3 -I\n", 0o755),
        sym("usr/bin/python3", "python3.10"),
        reg("usr/bin/python3.10", elf(interpreter=LOADER), 0o755),
    )
    made = make(tmp_path, image, base(), SERVER, '[[take]]\npaths = ["usr/bin/tool"]\n')
    assert paths(made)["usr/bin/python3"] == "python3.10"


@pytest.mark.parametrize(
    ("image", "base_", "stage", "says"),
    [
        pytest.param(
            # "an older glibc is named by file and version"
            full(server(needed=["libc.so.6"], versions={"libc.so.6": ["GLIBC_2.38"]})),
            base(),
            SERVER,
            "needs GLIBC_2.38 of libc.so.6; the base's .* goes up to GLIBC_2.35",
        ),
        pytest.param(
            # "a soname that nobody has"
            full(server(needed=["libnone.so.7"])),
            base(),
            SERVER,
            "tritonserver needs libnone.so.7, which is neither in the base nor in the full image",
        ),
        pytest.param(
            # "a truncated library"
            full(server(needed=[]), reg("opt/l.so", elf(soname="l" * 90)[:-40])),
            base(),
            SERVER + '[[take]]\npaths = ["opt/l.so"]\n',
            "/opt/l.so is a damaged ELF file",
        ),
        pytest.param(
            # "all patterns that match nothing, at once"
            full(server(needed=[])),
            base(),
            SERVER + '[[take]]\npaths = ["opt/one*", "opt/two"]\n',
            "nothing matches 'opt/one\\*'(.|\n)*nothing matches 'opt/two'",
        ),
        pytest.param(
            # "a package that is not installed"
            full(server(needed=[])),
            base(),
            'packages = ["python3"]\n' + SERVER,
            "no package 'python3' is installed",
        ),
        pytest.param(
            # "a path that two rules give other content"
            full(server(needed=[])),
            base(),
            SERVER + '[[file]]\npath = "opt/tritonserver/bin/tritonserver"\ntext = "other"\n',
            "is taken by s0 .* and, with other content, by s0",
        ),
        pytest.param(
            # "a backend that the image has not"
            full(server(needed=[]), reg("opt/tritonserver/backends/a/libtriton_a.so", "x")),
            base(),
            'backend = "b"\n',
            "has no backend 'b'; it has a",
        ),
    ],
)
def test_refused(
    image: MemorySource,
    base_: MemorySource,
    stage: str,
    says: str,
    tmp_path: Path,
) -> None:
    with pytest.raises(SelectionError, match=says):
        make(tmp_path, image, base_, stage)


def test_a_base_without_dpkg(tmp_path: Path) -> None:
    with pytest.raises(SelectionError, match="has no package database"):
        make(tmp_path, full(server()), MemorySource(tar(reg("bin/sh", "x"))), SERVER)


def test_what_is_wanted_late_is_fetched_by_reading_its_layer_again(tmp_path: Path) -> None:
    image = full(server(needed=["libc.so.6"]))
    make(tmp_path, image, base(), SERVER)
    assert image.reads[0] == 0
    assert len(image.reads) <= 4


def test_conflicts_are_not_made_by_taking_one_path_twice(tmp_path: Path) -> None:
    made = make(tmp_path, full(server(needed=[])), base(), SERVER, SERVER)
    assert isinstance(made.rootfs, RootFS)
    assert [stage.stage.name for stage in made.stages] == ["s0"]
