"""`verify` on the slim image: started, asked, compared with a full one; and on images no good."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
import xml.etree.ElementTree as ElementTree
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import docker
import pytest

from assembler.verify.checks import Report, Result
from assembler.verify.container import LABEL, Limits
from assembler.verify.models import check as check_models
from assembler.verify.serving.all_checks import CHECKS
from assembler.verify.serving.checks_infer import echo_http_json
from assembler.verify.serving.models import write_repository
from assembler.verify.serving.server import serve
from assembler.verify.started import Subject
from assembler.verify.started import check as check_started
from tests.conftest import ROOT, Hosted, run
from tests.standin.build import Standin

ENTRY = {"Entrypoint": ["/opt/nvidia/nvidia_entrypoint.sh"], "WorkingDir": "/opt/tritonserver"}
BACKENDS = ("onnxruntime", "python")
UTILS = "/opt/tritonserver/backends/python/triton_python_backend_utils.py"


@pytest.fixture(scope="module")
def repository(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("models")
    write_repository(folder)
    return folder


@pytest.fixture(scope="module")
def build(docker_engine: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """Build images of Dockerfiles, which end with the module."""
    made: list[str] = []

    def image(name: str, text: str, *files: Path) -> str:
        context = tmp_path_factory.mktemp("context")
        (context / "Dockerfile").write_text(text)
        for file in files:
            shutil.copy(file, context)
        made.append(f"verify-test:{name}")
        done = subprocess.run(
            ["docker", "build", "--quiet", "--force-rm", "-t", made[-1], str(context)],
            capture_output=True, text=True, check=False,
        )  # fmt: skip
        assert done.returncode == 0, done.stdout + done.stderr
        return made[-1]

    yield image
    subprocess.run(["docker", "rmi", "-f", *made], check=False, capture_output=True)


@pytest.fixture(scope="module")
def full(hosted: Hosted, docker_engine: None) -> str:
    client = docker.from_env()
    client.images.pull(hosted.full)
    client.close()
    return hosted.full


@pytest.fixture(scope="module")
def good_full(full: str, build: Callable[..., str], work: Path) -> str:
    """The full image with a numpy that its python backend can take, so that it answers at all."""
    wheel = next((work / "wheels").glob("numpy-1.26.4-cp311-*.whl"), None)
    if wheel is None:
        (work / "wheels").mkdir(exist_ok=True)
        subprocess.run(
            [sys.executable, "-m", "pip", "download", "-q", "--no-deps", "--python-version=3.11",
             "--only-binary=:all:", "--platform=manylinux_2_17_x86_64", "numpy==1.26.4",
             "-d", str(work / "wheels")],
            check=True,
        )  # fmt: skip
        wheel = next((work / "wheels").glob("numpy-1.26.4-cp311-*.whl"))
    return build(
        "full",
        f"FROM {full}\nCOPY *.whl /wheels/\n"
        "RUN pip install --break-system-packages --no-index --no-deps /wheels/*.whl\n",
        wheel,
    )


def leftovers() -> list[str]:
    """What `verify` made in the Engine and is still there."""
    client = docker.APIClient()
    try:
        found = client.containers(all=True, filters={"label": LABEL})
        networks = client.networks(filters={"label": LABEL})
        mine = f"@{os.uname().nodename}"
        return [e["Id"] for e in (*found, *networks) if e["Labels"][LABEL].endswith(mine)]
    finally:
        client.close()


@pytest.fixture(scope="module")
def report(
    slim: str, good_full: str, repository: Path, tmp_path_factory: pytest.TempPathFactory
) -> dict[str, Any]:
    """All of `verify` in one run, as JSON; the JUnit file lies beside."""
    folder = tmp_path_factory.mktemp("report")
    numbers = {"name": "A", "shape": [1, 4], "datatype": "FP32", "data": [1, 2, 3, 4.5]}
    right = {"name": "B", "shape": [1, 4], "datatype": "FP32", "data": [[-2, 1, 6, 17.25]]}
    ask = {"model": "no_config", "inputs": [numbers]}
    refused = {"model": "no_config", "inputs": [numbers | {"name": "Z"}]}
    lines = [
        ask | {"expected": [right]},
        ask | {"expected": [{"name": "B", "data": [9] * 4}]},
        refused,
    ]
    requests = folder / "requests.jsonl"
    requests.write_text("".join(json.dumps(line) + "\n" for line in lines))
    own = folder / "own"
    shutil.copytree(repository / "no_config", own / "no_config")
    done = run("verify", slim, "--against", good_full, "--model-repository", own,
               "--requests", requests, "--junit", folder / "report.xml", "--json")  # fmt: skip
    assert done.returncode == 1, done.stderr
    return json.loads(done.stdout) | {"junit": folder / "report.xml"}


def rows(report: dict[str, Any], part: str) -> dict[str, dict[str, Any]]:
    return {row["name"]: row for row in report["checks"] if row["part"] == part}


NAMES = [*(check.name for check in CHECKS), "ready", "entrypoint-folder", "shared-memory"]


@pytest.mark.parametrize("name", [*NAMES, "clean-stop"])
def test_the_slim_image_serves(report: dict[str, Any], name: str) -> None:
    row = rows(report, "started")[name]
    assert row["status"] == "ok", row["text"]


def test_it_stops_at_once(report: dict[str, Any]) -> None:
    assert rows(report, "started")["clean-stop"]["seconds"] < 10


def test_its_answers_are_those_of_the_full_image_bit_for_bit(report: dict[str, Any]) -> None:
    found = rows(report, "against")
    same = {name: row["text"] for name, row in found.items() if name.startswith("same-")}
    assert {"same-every_type-binary", "same-echo-json", "same-ensemble_model-json"} <= set(same)
    assert {f"same-request-{number}-no_config" for number in (1, 2, 3)} <= set(same)
    assert all(text.endswith("bit for bit") for text in same.values()), same
    for name in ("ready", "latency-add_fp32", "latency-echo"):
        assert report["figures"][name]["ratio"] > 0


def test_own_models_load_and_own_requests_are_compared(report: dict[str, Any]) -> None:
    found = rows(report, "models")
    assert found["model-no_config"]["status"] == "ok"
    assert found["request-1-no_config"]["text"] == "1 outputs as expected"
    assert found["request-2-no_config"]["status"] == "failed"
    assert "17.25" in found["request-2-no_config"]["text"]
    assert "HTTP 400" in found["request-3-no_config"]["text"]


def test_the_wrong_rows_make_it_fail(report: dict[str, Any]) -> None:
    failed = [row["name"] for row in report["checks"] if row["status"] == "failed"]
    assert failed == ["request-2-no_config", "request-3-no_config"]
    assert report["holds"] is False
    suites = ElementTree.parse(report["junit"]).getroot()
    assert suites.get("failures") == "2"
    assert [case.get("name") for case in suites.iter("testcase") if case.find("failure")
            is not None] == failed  # fmt: skip


def test_nothing_is_left_behind(report: dict[str, Any]) -> None:
    assert not leftovers()


# -- images that do not serve ----------------------------------------------------------------


def test_the_full_image_has_the_fault_that_is_cured(full: str, repository: Path) -> None:
    """numpy 2 and a stub built for numpy 1 (python_backend #384): READY, and every answer wrong."""
    only = ("--model-control-mode=explicit", "--load-model=echo")
    with serve(full, repository, only) as running:
        assert running.client.status("health/ready") == 200
        with pytest.raises(AssertionError, match="unpack_from requires a buffer"):
            echo_http_json(running.client)


def test_a_python_backend_that_lies_is_found(slim: str, build: Callable[..., str]) -> None:
    """READY, with answers of the right form: only comparing them shows it."""
    lie = (
        "_serialize = serialize_byte_tensor\\n"
        "def serialize_byte_tensor(tensor):\\n    return _serialize(tensor[::-1])\\n"
    )
    image = build("lies", f"FROM {slim}\nRUN printf '{lie}' >> {UTILS}\n")
    found = Report(image)
    check_started(Subject(image, ENTRY, ("python",)), found, Limits(), 60)
    wrong = {result.name: result.text for result in found.failed}
    assert {"python-answers-json", "python-answers-grpc", "python-types-binary"} <= set(wrong)
    assert "TEXT_UPPER is" in wrong["python-answers-json"]
    assert all(name.startswith(("python-", "unload-and-load")) for name in wrong), wrong
    skipped = {result.name for result in found.results if result.status == "skipped"}
    assert {"onnx-answers-json", "ensemble-json", "shared-memory"} <= skipped


def test_a_server_that_never_gets_ready(slim: str, build: Callable[..., str]) -> None:
    image = build("sleeps", f"FROM {slim}\nRUN rm /bin/bash\nENTRYPOINT []\n")
    found = Report(image)
    check_started(Subject(image, {}, ("python",)), found, Limits(), 4)
    assert [(result.name, result.status) for result in found.results] == [("ready", "failed")]
    assert "not ready within 4 s" in found.results[0].text
    assert not leftovers()


def test_a_container_that_is_killed(slim: str) -> None:
    def kill(result: Result) -> None:
        if result.name == "models-ready":
            subprocess.run(["docker", "kill", names()[0]], check=True, capture_output=True)

    found = Report(slim, on_result=kill)
    check_started(Subject(slim, ENTRY, ("onnxruntime",)), found, Limits(), 60)
    assert found.failed[-1].name == "alive"
    assert "ended with status 137" in found.failed[-1].text
    assert not leftovers()


def test_a_container_whose_time_is_over(slim: str) -> None:
    found = Report(slim)
    check_started(Subject(slim, ENTRY, BACKENDS), found, Limits(seconds=1), 60)
    assert [(result.name, result.status) for result in found.results] == [("ready", "failed")]


def test_broken_models_and_models_for_a_gpu_are_rows(
    slim: str, repository: Path, tmp_path: Path
) -> None:
    for model in ("no_config", "echo"):
        shutil.copytree(repository / model, tmp_path / model)
    config = tmp_path / "echo" / "config.pbtxt"
    config.write_text(config.read_text().replace("KIND_CPU", "KIND_GPU"))
    (tmp_path / "broken" / "1").mkdir(parents=True)
    (tmp_path / "broken" / "config.pbtxt").write_text("name: 'broken' backend")
    (tmp_path / "empty").mkdir()
    found = Report(slim)
    check_models(Subject(slim, ENTRY, BACKENDS), tmp_path, (), found, Limits(), 60)
    by_name = {result.name: result for result in found.results}
    assert by_name["model-no_config"].status == "ok"
    assert {name for name, result in by_name.items() if result.status == "failed"} == {
        "model-echo", "model-broken", "model-empty",
    }, by_name  # fmt: skip
    assert "GPU" in by_name["model-echo"].text


def names() -> list[str]:
    listed = subprocess.run(
        ["docker", "ps", "--filter", f"label={LABEL}", "--format", "{{.Names}}"],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    return listed.stdout.split()


def test_ctrl_c_leaves_nothing(slim: str) -> None:
    process = subprocess.Popen(
        [sys.executable, "-m", "assembler", "verify", slim], cwd=ROOT, stderr=subprocess.PIPE,
        stdout=subprocess.DEVNULL, text=True,
    )  # fmt: skip
    deadline = time.monotonic() + 60
    while not names() and time.monotonic() < deadline:
        time.sleep(0.1)
    process.send_signal(signal.SIGINT)
    _, said = process.communicate(timeout=60)
    assert process.returncode == 130, said
    assert "Traceback" not in said
    assert not leftovers()


def test_without_an_engine_the_static_part_is_made(standin: Standin, tmp_path: Path) -> None:
    """And `extract --verify` says so as well."""
    nowhere = {"DOCKER_HOST": f"unix://{tmp_path}/none"}
    words = ["--source", f"oci:{standin.full}", "--base", f"oci:{standin.base}"]
    done = run("extract", *words, "--output", tmp_path / "slim", "--verify", env=nowhere)
    assert done.returncode == 0, done.stderr
    assert "verified, the static part alone: no Docker Engine answers here" in done.stderr
    done = run("verify", f"oci:{tmp_path}/slim", env=nowhere)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "static part alone: no Docker Engine answers here" in done.stdout


def test_extract_gives_no_name_to_what_does_not_hold(hosted: Hosted, tmp_path: Path) -> None:
    recipe = tmp_path / "Dockerfile"
    text = (ROOT / "Dockerfile.final").read_text()
    recipe.write_text(text.replace("WORKDIR", "ENV LD_LIBRARY_PATH=/nowhere\nWORKDIR"))
    done = run("extract", *hosted.mirrors, "--dockerfile", recipe, "--tag", "verify-test:refused",
               "--verify")  # fmt: skip
    assert done.returncode == 1
    assert "got no name: ld-library-path: " in done.stderr
    images = subprocess.run(["docker", "images", "-q", "verify-test:refused"], check=True,
                            capture_output=True)  # fmt: skip
    assert not images.stdout
