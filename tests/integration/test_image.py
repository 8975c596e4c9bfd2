"""What people do with the image: derive from it, install into it, scan it."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import docker
import pytest

from assembler.verify.serving.models import expected_label, write_repository
from assembler.verify.serving.server import serve

# The downstream template's own (tritoned_bert), but for its FROM line.
DOWNSTREAM = """FROM {base}
RUN pip install transformers==4.51.3 numpy==1.26.4 --no-cache-dir
WORKDIR /models
COPY model_repository ./
EXPOSE 8000 8001 8002
CMD ["tritonserver", "--model-repository=./"]
"""


def download(folder: Path, *what: str) -> None:
    """Fetch wheels for the image's Python."""
    subprocess.run(
        [sys.executable, "-m", "pip", "download", "--quiet", "--dest", str(folder),
         "--only-binary=:all:", "--python-version=3.11", "--platform=manylinux2014_x86_64",
         "--platform=manylinux_2_17_x86_64", "--platform=manylinux_2_28_x86_64", *what],
        check=True,
    )  # fmt: skip


@pytest.fixture(scope="session")
def wheels(work: Path) -> Path:
    """Wheels that a test's index holds: a container reaches no index of this machine's."""
    folder = work / "wheels-downstream"
    if not (folder / "done").exists():
        download(folder, "transformers==4.51.3", "numpy==1.26.4")
        download(folder, "--no-deps", "numpy==2.2.6")
        (folder / "done").touch()
    return folder


@pytest.fixture(scope="session")
def with_index(slim: str, wheels: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The slim image plus a folder of wheels that its pip takes for the index."""
    context = tmp_path_factory.mktemp("context")
    subprocess.run(["cp", "-r", str(wheels), str(context / "wheels")], check=True)
    (context / "Dockerfile").write_text(
        f"FROM {slim}\nCOPY wheels /wheels\nENV PIP_NO_INDEX=1 PIP_FIND_LINKS=/wheels\n"
    )
    yield build(context, "assembler-test:index")
    remove("assembler-test:index")


def build(context: Path, tag: str) -> str:
    done = subprocess.run(
        ["docker", "build", "--quiet", "-t", tag, str(context)],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    return tag


def remove(tag: str) -> None:
    subprocess.run(["docker", "rmi", "-f", tag], check=True, capture_output=True)


def shell(image: str, script: str, user: str = "root") -> tuple[int, str]:
    """Run a script in a container of the image; return its status and all it printed."""
    client = docker.from_env()
    try:
        container = client.containers.create(
            image, ["-c", script], entrypoint="/bin/sh", user=user, working_dir="/tmp"
        )
        try:
            container.start()
            code = container.wait(timeout=300)["StatusCode"]
            return code, container.logs().decode()
        finally:
            container.remove(force=True)
    finally:
        client.close()


def test_the_downstream_dockerfile_builds_and_serves(with_index: str, tmp_path: Path) -> None:
    write_repository(tmp_path / "model_repository")
    (tmp_path / "Dockerfile").write_text(DOWNSTREAM.format(base=with_index))
    image = build(tmp_path, "assembler-test:downstream")
    try:
        with serve(image, None, command=[]) as server:
            body = {
                "inputs": [
                    {
                        "name": "text_input",
                        "shape": [1, 1],
                        "datatype": "BYTES",
                        "data": ["помогите мне"],
                    }
                ]
            }
            answer = server.client.post("models/ensemble_model/infer", body)
        assert answer["outputs"][0]["data"] == [expected_label("помогите мне")]
    finally:
        remove(image)


@pytest.mark.parametrize("user", ["root", "triton-server"])
@pytest.mark.parametrize(
    "command",
    ['pip install "numpy>=1.21" --upgrade', "pip install numpy==2.2.6", "pip install -U numpy",
     "env -i /usr/local/bin/pip install --no-index --find-links /wheels numpy==2.2.6"],
)  # fmt: skip
def test_the_pin_survives(with_index: str, command: str, user: str) -> None:
    script = (
        f"export HOME=/tmp; {command}; echo; python3 -c 'import numpy; print(numpy.__version__)'"
    )
    _, said = shell(with_index, script, user)
    assert said.strip().endswith("1.26.4"), said
    if "==2" in command:
        assert "The user requested (constraint) numpy==1.26.4" in said


def test_a_package_that_wants_numpy_2_is_refused(with_index: str) -> None:
    script = (
        'mkdir -p p && cd p && printf \'[project]\\nname="p"\\nversion="1"\\n'
        'dependencies=["numpy>=2"]\\n\' > pyproject.toml && pip install --no-build-isolation .'
    )
    code, said = shell(with_index, script)
    assert code != 0
    assert "numpy==1.26.4" in said, said


def test_the_one_switch_takes_the_pin_away(with_index: str) -> None:
    script = (
        "PIP_CONSTRAINT=/dev/null pip install numpy==2.2.6 && "
        "python3 -c 'import numpy; print(numpy.__version__)'"
    )
    code, said = shell(with_index, script)
    assert code == 0
    assert said.strip().endswith("2.2.6")


def test_with_numpy_2_a_python_model_stops_at_load(with_index: str, tmp_path: Path) -> None:
    write_repository(tmp_path / "models")
    (tmp_path / "Dockerfile").write_text(
        f"FROM {with_index}\nRUN PIP_CONSTRAINT=/dev/null pip install numpy==2.2.6\n"
        "COPY models /models\n"
    )
    image = build(tmp_path, "assembler-test:numpy2")
    try:
        script = "timeout 60 tritonserver --model-repository=/models --model-control-mode=explicit "
        _, said = shell(image, script + "--load-model=echo --exit-on-error=true")
    finally:
        remove(image)
    assert "numpy 2.2.6 found" in said
    assert "needs numpy 1.x" in said


def test_the_loader_finds_everything_before_and_after_ldconfig(slim: str) -> None:
    script = (
        "files='/opt/tritonserver/bin/tritonserver "
        "/opt/tritonserver/backends/python/triton_python_backend_stub'; unset LD_LIBRARY_PATH; "
        "for f in $files; do ldd -r $f; done; ldconfig; for f in $files; do ldd -r $f; done"
    )
    code, said = shell(slim, script)
    assert code == 0
    assert "not found" not in said
    assert "undefined" not in said


def test_packages_are_known_and_whole_to_dpkg_and_apt(slim: str) -> None:
    code, said = shell(
        slim, "dpkg --audit && apt-get check -qq && dpkg-query -W -f '${Package} ${Version}\\n'"
    )
    assert code == 0, said
    names = {line.split()[0] for line in said.splitlines()}
    assert {"python3", "libcurl4", "libxml2", "ca-certificates"} <= names
    assert not names & {"curl", "wget", "libpython3-dev", "datacenter-gpu-manager"}


def test_users(slim: str) -> None:
    code, said = shell(
        slim, "id triton-server; id -un; stat -c '%U %a' /home/triton-server; pwck -r"
    )
    assert "uid=1000(triton-server) gid=1000(triton-server)" in said
    assert said.splitlines()[1] == "root"
    assert "triton-server 755" in said
    assert code in (0, 2), "pwck complains of the base's own missing homes alone"
    assert "triton-server" not in said.split("755", 1)[1]


def test_pip_speaks_tls(slim: str) -> None:
    _, said = shell(
        slim, "python3 -c 'import ssl; print(len(ssl.create_default_context().get_ca_certs()))'"
    )
    assert int(said.split()[-1]) > 100
