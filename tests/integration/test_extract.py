"""The whole path: from each source to each destination, the same image."""

from __future__ import annotations

import json
import os
import subprocess
import uuid
from pathlib import Path
from typing import Any

import docker
import pytest

from assembler.oci import Platform
from assembler.reference import Reference
from assembler.sources.opening import Access
from assembler.tree import Tree
from assembler.view import View
from tests.conftest import Hosted, assembler, run
from tests.standin.build import Standin

IMAGE = "tritonserver:24.05-onnxruntime-python-cpu"


def view(reference: str, tmp_path: Path) -> View:
    """Read an image that was made, contents and all."""
    with Access().open(Reference.parse(reference), Platform("linux", "amd64")) as source:
        return View.of(source, tmp_path, lambda _: True)


def listing(tree: Tree) -> dict[str, tuple[Any, ...]]:
    return {
        path: (e.kind, e.mode, e.uid, e.gid, e.size, e.link) for path in tree if (e := tree[path])
    }


@pytest.fixture(scope="module")
def layout(hosted: Hosted, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The slim image as an OCI layout, read from a registry."""
    folder = tmp_path_factory.mktemp("out") / "layout"
    assembler("extract", "24.05", *hosted.mirrors, "--output", folder)
    return folder


@pytest.fixture(scope="module")
def made(layout: Path, tmp_path_factory: pytest.TempPathFactory) -> View:
    return view(f"oci:{layout}", tmp_path_factory.mktemp("view"))


def layers_and_config(layout: Path) -> tuple[list[str], str]:
    index = json.loads((layout / "index.json").read_text())
    images = [m for m in index["manifests"] if "artifactType" not in m]
    manifest = json.loads((layout / "blobs/sha256" / images[0]["digest"][7:]).read_text())
    return [layer["digest"] for layer in manifest["layers"]], manifest["config"]["digest"]


@pytest.mark.parametrize("source", ["engine", "docker-archive", "oci"])
def test_every_source_gives_the_same_layers_and_config(
    source: str,
    layout: Path,
    hosted: Hosted,
    standin: Standin,
    docker_engine: None,
    tmp_path: Path,
) -> None:
    words = {"oci": f"oci:{standin.full}"}
    if source in ("engine", "docker-archive"):
        subprocess.run(["docker", "pull", "--quiet", hosted.full], check=True, capture_output=True)
        words["engine"] = f"docker-daemon:{hosted.full}"
    if source == "docker-archive":
        archive = tmp_path / "saved.tar"
        subprocess.run(["docker", "save", "-o", str(archive), hosted.full], check=True)
        words["docker-archive"] = f"docker-archive:{archive}"
    out = tmp_path / "layout"
    assembler("extract", "--source", words[source], "--base", hosted.base, "--output", out)
    assert layers_and_config(out) == layers_and_config(layout)


def test_another_user_zone_umask_and_hash_seed_change_nothing(
    layout: Path, hosted: Hosted, tmp_path: Path
) -> None:
    out = tmp_path / "layout"
    env = {"TZ": "Pacific/Auckland", "PYTHONHASHSEED": "7", "LC_ALL": "C"}
    old = os.umask(0o077)
    try:
        assembler(
            "extract",
            *hosted.mirrors,
            "--output",
            out,
            env=env,
            cwd=Path(__file__).parent.parent.parent,
        )
    finally:
        os.umask(old)
    assert layers_and_config(out) == layers_and_config(layout)


def test_source_date_epoch_is_the_time_of_everything(hosted: Hosted, tmp_path: Path) -> None:
    out = tmp_path / "layout"
    env = {"SOURCE_DATE_EPOCH": "1000000000"}
    assembler("extract", *hosted.mirrors, "--output", out, env=env)
    _, config = layers_and_config(out)
    document = json.loads((out / "blobs/sha256" / config[7:]).read_text())
    assert document["created"] == "2001-09-09T01:46:40Z"


def test_json_says_what_was_made(hosted: Hosted, tmp_path: Path) -> None:
    out = tmp_path / "x.tar"
    found = json.loads(
        assembler("extract", *hosted.mirrors, "--output", out, "--tag", "a/b:c", "--json")
    )
    assert found["image"]["tags"] == ["a/b:c"]
    assert set(found["image"]) == {"id", "digest", "tags", "size"}
    assert set(found) == {"image", "stages", "bytes_read", "seconds"}
    assert [s["name"] for s in found["stages"]][-1] == "numpy", "a new numpy sends its layer alone"
    assert {"name", "digest", "size"} <= set(found["stages"][0])
    assert all(0 <= stage["seconds"] <= found["seconds"] for stage in found["stages"])
    assert 0 < found["bytes_read"] < 1.1 * 250_000_000


def test_without_an_engine_docker_is_never_imported(standin: Standin, tmp_path: Path) -> None:
    words = ["extract", "--source", f"oci:{standin.full}", "--base", f"oci:{standin.base}",
             "--output", str(tmp_path / "x.tar"), "-q"]  # fmt: skip
    code = (
        "import sys; from assembler.cli import run; assert run(sys.argv[1:]) == 0; "
        "assert 'docker' not in sys.modules"
    )
    subprocess.run(["python", "-c", code, *words], check=True)


# -- what is in it ---------------------------------------------------------------------------


def test_what_a_cpu_does_not_need_is_not_there(made: View) -> None:
    unwanted = ("libcublas", "libcudnn", "libnvinfer", "providers_cuda", "providers_tensorrt",
                "libopenvino", "third-party-src", "backends/tensorrt", "backends/pytorch",
                ".pyc", "usr/include/", "onnx_test_runner", ".wh.")  # fmt: skip
    assert [p for p in made.tree if any(word in p for word in unwanted)] == []


def test_what_is_wanted_is_there_as_it_was(made: View) -> None:
    stub = made.tree["opt/tritonserver/backends/python/triton_python_backend_stub"]
    assert (stub.mode, stub.uid, stub.gid) == (0o755, 1000, 1000)
    for path in ("usr/bin/python3", "usr/local/bin/pip", "etc/ssl/certs/ca-certificates.crt",
                 "opt/tritonserver/LICENSE", "usr/bin/serve",
                 "usr/lib/x86_64-linux-gnu/libcudart.so.12", "usr/share/doc/libxml2/copyright",
                 "usr/lib/x86_64-linux-gnu/libdcgm.so.3"):  # fmt: skip
        assert made.tree.resolve(path), path
    assert "opt/nvidia/entrypoint.d/50-gpu-driver-check2.sh" not in made.tree


def test_environment_and_labels(made: View, standin: Standin) -> None:
    env = made.env()
    assert env["PATH"].startswith("/opt/tritonserver/bin:")
    assert env["TRITON_SERVER_VERSION"] == "2.46.0"
    assert env["TRITON_SERVER_GPU_ENABLED"] == "0"
    assert env["LD_LIBRARY_PATH"] == "/opt/tritonserver/backends/onnxruntime"
    assert not any(key.startswith("CUDA") for key in env)
    settings = made.config["config"]
    assert settings["Entrypoint"] == ["/opt/nvidia/nvidia_entrypoint.sh"]
    assert settings["WorkingDir"] == "/opt/tritonserver"
    assert not settings.get("User")
    assert settings["Labels"]["com.nvidia.tritonserver.version"] == "2.46.0"


def test_one_layer_for_each_stage_over_the_base(made: View, standin: Standin) -> None:
    history = [h["created_by"] for h in made.config["history"]]
    assert [h for h in history if h.startswith("assembler")] == [
        f"assembler: stage {name}"
        for name in ("python", "certificates", "libraries", "server", "caches", "repoagents",
                     "backend-onnxruntime", "backend-python", "numpy")
    ]  # fmt: skip
    layers = [h for h in made.config["history"] if not h.get("empty_layer")]
    assert len(made.source.diff_ids) == len(layers)


def test_it_adds_at_most_245_mb_to_its_base(made: View, standin: Standin, tmp_path: Path) -> None:
    base = view(f"oci:{standin.base}", tmp_path)
    assert made.size - base.size < 245_000_000


def test_the_record_tells_of_every_path(hosted: Hosted, tmp_path: Path) -> None:
    record, out = tmp_path / "record.json", tmp_path / "layout"
    assembler("extract", *hosted.mirrors, "--output", out, "--record", record)
    document = json.loads(record.read_text())
    made = view(f"oci:{out}", tmp_path / "..")
    base_layers = len(made.source.diff_ids) - 9
    brought = {f"/{p}" for p in made.tree if made.tree[p].layer >= base_layers}
    assert brought == set(document["files"])
    server = document["files"]["/opt/tritonserver/bin/tritonserver"]
    assert server["stage"] == "server"
    assert server["origin"].startswith("sha256:")
    content = made.content("opt/tritonserver/bin/tritonserver")
    assert server["sha256"] == content.sha256


def test_the_two_builders_make_the_same_image(
    made: View, hosted: Hosted, docker_engine: None, tmp_path: Path
) -> None:
    assembler("extract", *hosted.mirrors, "--builder", "engine", "--tag", "built:engine")
    built = view("docker-daemon:built:engine", tmp_path)
    assert listing(built.tree) == listing(made.tree)
    keys = ("Env", "Labels", "Entrypoint", "WorkingDir", "Cmd", "User")
    theirs, ours = built.config["config"], made.config["config"]
    for key in keys:
        one, other = theirs.get(key) or None, ours.get(key) or None
        assert (sorted(one), sorted(other)) if key == "Env" else one == other, key
    changed = [p for p in made.tree if made.tree[p].kind == "file"
               and made.content(p).sha256 != built.content(p).sha256]  # fmt: skip
    assert changed == []


def test_a_dockerfile_of_ones_own(hosted: Hosted, docker_engine: None, tmp_path: Path) -> None:
    mine = tmp_path / "Dockerfile"
    mine.write_text(
        "ARG BASE\nFROM ${BASE}\n# assembler: stages\n# assembler: env\nRUN touch /ran\n"
    )
    refused = run("extract", *hosted.mirrors, "--dockerfile", mine, "--output", tmp_path / "o.tar")
    assert refused.returncode == 2
    assert "RUN 'touch /ran' (line " in refused.stderr
    assembler(
        "extract", *hosted.mirrors, "--dockerfile", mine, "--builder", "engine", "--tag", "own:1"
    )
    client = docker.from_env()
    try:
        assert client.containers.run("own:1", "ls /ran", remove=True) == b"/ran\n"
        mine.write_text(mine.read_text() + f"RUN touch /{uuid.uuid4()}\n")
        before = set(client.api.images(quiet=True, all=True))
        assembler(
            "extract", *hosted.mirrors, "--dockerfile", mine, "--builder", "engine",
            "--output", tmp_path / "o.tar",
        )  # fmt: skip
        assert set(client.api.images(quiet=True, all=True)) == before, "it is in the file alone"
    finally:
        client.close()


# -- choosing --------------------------------------------------------------------------------


def test_keep_openvino_brings_it_back_whole(standin: Standin, tmp_path: Path) -> None:
    out = tmp_path / "layout"
    assembler("extract", "--source", f"oci:{standin.full}", "--base", f"oci:{standin.base}",
              "--keep", "openvino", "--output", out)  # fmt: skip
    tree = view(f"oci:{out}", tmp_path).tree
    names = tree.children("opt/tritonserver/backends/onnxruntime")
    assert {"libopenvino.so", "libopenvino.so.2330", "libtbb.so.12", "LICENSE.openvino",
            "libonnxruntime_providers_openvino.so"} <= set(names)  # fmt: skip
    assert "libonnxruntime_providers_cuda.so" not in names


def test_a_backend_of_ones_own_is_one_file(standin: Standin, tmp_path: Path) -> None:
    folder = tmp_path / "mine"
    folder.mkdir()
    (folder / "mine.toml").write_text(
        'summary = "Mine"\norder = 64\nbackend = "square"\n\n'
        '[[take]]\npaths = ["opt/tritonserver/{backends/square/**,python/*.whl}"]\n'
    )
    # A file of the same name takes the place of the known one.
    (folder / "backend-square.toml").write_text('summary = "no more"\nbackend = "unused"\n')
    out = tmp_path / "layout"
    assembler("extract", "--source", f"oci:{standin.full}", "--base", f"oci:{standin.base}",
              "--backend", "square", "--stages", folder, "--output", out)  # fmt: skip
    tree = view(f"oci:{out}", tmp_path).tree
    assert tree.children("opt/tritonserver/backends") == ["square"]
    assert tree.children("opt/tritonserver/python")


# -- destinations ----------------------------------------------------------------------------


def test_the_archive_loads_and_copies(hosted: Hosted, docker_engine: None, tmp_path: Path) -> None:
    out = tmp_path / "x.tar"
    found = json.loads(
        assembler("extract", *hosted.mirrors, "--output", out, "--tag", "loaded:1", "--json")
    )
    subprocess.run(["docker", "load", "-i", str(out)], check=True, capture_output=True)
    client = docker.from_env()
    try:
        assert client.images.get("loaded:1").id == found["image"]["id"]
    finally:
        client.close()
    for kind in ("docker-archive", "oci-archive"):
        subprocess.run(
            ["skopeo", "copy", "--quiet", f"{kind}:{out}", f"dir:{tmp_path / kind}"], check=True
        )
