"""Every release on every machine, by layout: extracted and looked at, nothing is started."""

from __future__ import annotations

from pathlib import Path

import pytest

from assembler import cli, releases
from assembler.view import View
from tests.integration import small
from tests.releases import layouts
from tests.releases.layouts import OPT
from tests.releases.looking import unresolved, view
from tests.releases.parts import AMD64, ARM64, OPENVINO, Machine, Release

RELEASES = list(releases.table())


@pytest.fixture(scope="module")
def where(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Bases that several releases share, and numpy wheels of next to nothing."""
    folder = tmp_path_factory.mktemp("layouts")
    for version in ("1.24.4", "1.26.4", "2.1.3"):
        small.wheel(folder / "cache" / "wheels", version)
    return folder


def extract(where: Path, tmp_path: Path, name: str, machine: Machine, *more: str) -> View:
    """Run the command in this process (a process each would cost more than the work)."""
    full = layouts.full(tmp_path / "full", name, machine)
    base = layouts.base(where, releases.table()[name].ubuntu, machine)
    platform = f"linux/{machine.architecture}"
    words = ["--source", f"oci:{full}", "--base", f"oci:{base}", "--platform", platform]
    words += ["--offline", "--cache-dir", str(where / "cache"), "--quiet"]
    status = cli.run(["extract", name, *words, "--output", str(tmp_path / "out"), *more])
    assert status == 0
    return view(f"oci:{tmp_path / 'out'}", machine, tmp_path / "view")


@pytest.mark.parametrize("machine", [AMD64, ARM64], ids=lambda m: m.architecture)
@pytest.mark.parametrize("name", RELEASES)
def test_a_release(name: str, machine: Machine, where: Path, tmp_path: Path) -> None:
    made, part = extract(where, tmp_path, name, machine), Release(name, machine)
    tree, config = made.tree, made.config
    assert config["architecture"] == machine.architecture
    assert unresolved(made, machine) == []
    assert tree.resolve(f"{machine.lib}/{part.cudart[0]}") is not None
    assert tree.resolve(f"{machine.lib}/{part.dcgm}") is not None
    assert tree.resolve(f"{OPT}/backends/onnxruntime/{part.onnxruntime}") is not None
    # Nothing for a GPU, nothing that is not asked for.
    names = {path.rpartition("/")[2] for path in tree}
    assert not {n for n in names if "cublas" in n or "_cuda.so" in n or "_tensorrt.so" in n}
    assert not names & {*OPENVINO, "EXTERNALLY-MANAGED", "test_os.py"}
    assert not tree.children(f"{OPT}/python")
    # One Python, with pip, and the numpy that it can have.
    python = part.row.python
    assert tree.resolve("usr/bin/python3") == f"usr/bin/python{python}"
    assert any(tree.resolve(f"usr/{folder}bin/pip") for folder in ("local/", ""))
    packages = f"usr/local/lib/python{python}/dist-packages"
    assert f"{packages}/numpy-{part.row.numpy}.dist-info/METADATA" in tree
    assert f"{packages}/numpy/version.py" not in tree, "upstream's own numpy"
    # Users, owners, modes.
    passwd = made.read_text("etc/passwd") or ""
    assert passwd.splitlines()[1:] == ["triton-server:x:1000:1000::/home/triton-server:/bin/sh"]
    assert "ubuntu" not in (made.read_text("etc/group") or "")
    server = tree[f"{OPT}/bin/tritonserver"]
    wanted = (0, 0, 0o755) if name >= "26.06" else (1000, 1000, 0o777)
    assert (server.uid, server.gid, server.mode) == wanted
    assert tree[f"{OPT}/backends/python/triton_python_backend_stub"].mode & 0o111 == 0o111
    # Environment.
    env = made.env()
    assert env["TRITON_SERVER_VERSION"] == part.row.triton
    assert env["PATH"].startswith("/opt/tritonserver/bin:")
    folder = "/opt/tritonserver/backends/onnxruntime"
    assert env.get("LD_LIBRARY_PATH") == (folder if name <= "24.05" else None)
    assert env.get("PIP_BREAK_SYSTEM_PACKAGES") == ("1" if name >= "24.11" else None)
    # Packages, by the names that this Ubuntu has for them.
    status = made.read_text("var/lib/dpkg/status") or ""
    known = {line[9:] for line in status.splitlines() if line.startswith("Package: ")}
    t64 = part.ubuntu.t64
    assert {f"libcurl4{t64}", f"libarchive13{t64}", f"libpython{python}{t64}"} <= known
    assert ("python3-pip" in known) == (name >= "24.11")
    assert not {n for n in known if n.startswith(("cuda", "datacenter"))}
    guarded = "numpy 1.x" in (
        made.read_text(f"{OPT}/backends/python/triton_python_backend_utils.py") or ""
    )
    assert guarded == (name < "24.11")


def test_the_python_api_comes_when_asked_for(where: Path, tmp_path: Path) -> None:
    made = extract(where, tmp_path, "26.08", AMD64, "--keep", "python-api")
    assert made.tree.children(f"{OPT}/python") == [
        "openai", "tritonfrontend-2.72.0-py3-none-any.whl", "tritonserver-2.72.0-py3-none-any.whl",
    ]  # fmt: skip
    assert f"{OPT}/python/openai/openai_frontend/main.py" in made.tree


def test_openvino_is_not_there_on_arm64(
    where: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(AssertionError):
        extract(where, tmp_path, "26.08", ARM64, "--keep", "openvino")
    assert "--keep openvino: oci:" in capsys.readouterr().err


def test_numpy_2_where_the_backend_takes_it(where: Path, tmp_path: Path) -> None:
    made = extract(where, tmp_path, "24.11", AMD64, "--numpy", "2.1.3")
    assert (made.read_text("etc/pip-constraints.txt") or "").endswith("\nnumpy==2.1.3\n")


def test_another_ubuntu_is_said_and_what_does_not_fit_is_named(
    where: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    full = layouts.full(tmp_path / "full", "24.11", AMD64)
    base = layouts.base(where, "22.04", AMD64)
    status = cli.run(
        ["extract", "--source", f"oci:{full}", "--base", f"oci:{base}", "--offline",
         "--cache-dir", str(where / "cache"), "--quiet", "--output", str(tmp_path / "out")]
    )  # fmt: skip
    said = capsys.readouterr().err
    assert status == 1
    assert "was built on Ubuntu 24.04, the base is Ubuntu 22.04" in said
    assert "needs GLIBC_2.39 of libc.so.6; the base's" in said
    assert not (tmp_path / "out").exists()
