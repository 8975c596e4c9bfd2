"""The config file: what it says holds, and what is wrong with it is told by file and key."""

from __future__ import annotations

import json
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from assembler import settings
from assembler.errors import UsageError
from tests.conftest import run
from tests.unit import tiny
from tests.unit.fake_registry import FakeRegistry

FULL = """
insecure = ["plain.local:5000"]

[mirrors]
"nvcr.io" = ["one.local:5000/ngc", "two.local/ngc"]
"docker.io" = "one.local:5000/hub"
"""


def written(folder: Path, text: str | bytes) -> Path:
    path = folder / "assembler" / "config.toml"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return path


def test_all_of_it(tmp_path: Path) -> None:
    assert settings.load(written(tmp_path, FULL)) == settings.Settings(
        (
            "nvcr.io=one.local:5000/ngc",
            "nvcr.io=two.local/ngc",
            "docker.io=one.local:5000/hub",
        ),
        ("plain.local:5000",),
    )


def test_no_file_is_no_settings(tmp_path: Path) -> None:
    assert settings.load(tmp_path / "none" / "config.toml") == settings.Settings()


@pytest.mark.parametrize(
    ("environment", "expected"),
    [
        ({"XDG_CONFIG_HOME": "/somewhere"}, "/somewhere/assembler/config.toml"),
        ({"XDG_CONFIG_HOME": ""}, "~/.config/assembler/config.toml"),
        ({"XDG_CONFIG_HOME": "relative"}, "~/.config/assembler/config.toml"),
        ({}, "~/.config/assembler/config.toml"),
    ],
)
def test_where_it_lies(environment: dict[str, str], expected: str) -> None:
    assert settings.config_file(environment) == Path(expected).expanduser()


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("a = ", "is not TOML: "),
        (b"\xff\xfe", "is not text in UTF-8"),
        ("mirror = {}", "unknown key 'mirror' (did you mean mirrors?)"),
        ("x = 1", "unknown key 'x' (it may have ca, insecure, mirrors)"),
        ("mirrors = 1", "mirrors must be a table"),
        ('[mirrors]\n"nvcr.io" = 1', "mirrors.'nvcr.io' must be a list of texts"),
        ('[mirrors]\n"nvcr.io" = [1]', "mirrors.'nvcr.io' must be a list of texts"),
        ('[mirrors]\n"nvcr.io" = [""]', "mirrors.'nvcr.io' must be a list of texts"),
        ('[mirrors]\nx = ["y"]', "mirrors.'x': mirror 'x=y': 'x' is not a registry"),
        ('insecure = "x:1"', "insecure must be a list of texts"),
        ("ca = 1", "ca must be the path of a file"),
        ('ca = "/no/such"', "ca: /no/such cannot be read: No such file"),
        ('ca = "config.toml"', "config.toml holds no certificate (PEM)"),
    ],
)
def test_what_is_wrong_is_told_by_file_and_key(
    tmp_path: Path, text: str | bytes, line: str
) -> None:
    path = written(tmp_path, text)
    with pytest.raises(UsageError) as caught:
        settings.load(path)
    assert str(caught.value).startswith(str(path))
    assert line in str(caught.value)
    assert "\n" not in str(caught.value)


# -- as the commands see it ------------------------------------------------------------------


@pytest.fixture
def mirror() -> Iterator[FakeRegistry]:
    made = FakeRegistry()
    yield made
    made.close()


def closed() -> str:
    """A host where nobody listens."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return f"127.0.0.1:{probe.getsockname()[1]}"


def test_a_command_obeys_it(tmp_path: Path, mirror: FakeRegistry) -> None:
    """One mirror is not there, one has no such image: the third is asked."""
    mirror.add("right/nvidia/tritonserver:24.05-py3", [tiny.layer("x")])
    targets = [f"{closed()}/x", f"{mirror.host}/wrong", f"{mirror.host}/right"]
    written(tmp_path, f'[mirrors]\n"nvcr.io" = {json.dumps(targets)}\n')
    env = {"XDG_CONFIG_HOME": str(tmp_path)}
    done = run("plan", "24.05", "--base", "oci:/no/such", "--no-cache", env=env)
    assert "/no/such" in done.stderr, "the full image was found"
    assert f"mirror {targets[0][:-2]} is passed over" in done.stderr
    asked = [request.path for request in mirror.seen("manifests")]
    assert asked == [
        "/v2/wrong/nvidia/tritonserver/manifests/24.05-py3",
        "/v2/right/nvidia/tritonserver/manifests/24.05-py3",
    ]


def test_the_command_line_comes_first(tmp_path: Path, mirror: FakeRegistry) -> None:
    mirror.add("right/nvidia/tritonserver:24.05-py3", [tiny.layer("x")])
    written(tmp_path, f'[mirrors]\n"nvcr.io" = "{closed()}"\n')
    env = {"XDG_CONFIG_HOME": str(tmp_path)}
    words = ["--mirror", f"nvcr.io={mirror.host}/wrong", "--mirror", f"nvcr.io={mirror.host}/right"]
    done = run("plan", "24.05", "--base", "oci:/no/such", "--no-cache", *words, env=env)
    assert "passed over" not in done.stderr
    assert "/no/such" in done.stderr


def test_a_bad_file_is_wrong_usage(tmp_path: Path) -> None:
    path = written(tmp_path, "mirror = 1")
    done = run("plan", "24.05", env={"XDG_CONFIG_HOME": str(tmp_path)})
    assert done.returncode == 2
    assert done.stderr == f"assembler: {path}: unknown key 'mirror' (did you mean mirrors?)\n"


def test_one_that_may_not_be_read(tmp_path: Path) -> None:
    path = written(tmp_path, "")
    path.chmod(0)
    with tiny.as_nobody(), pytest.raises(UsageError, match=r"cannot be read: Permission denied"):
        settings.load(path)
