"""Dockerfile.final: filled in, and carried out as docker build would."""

from __future__ import annotations

from typing import Any

import pytest

from assembler import resources
from assembler.dockerfile import fill, interpret, words
from assembler.errors import UsageError

BASE = {"config": {"Env": ["PATH=/bin", "A=1"], "Cmd": ["bash"], "WorkingDir": "/w"}}


def settings(text: str) -> Any:
    return interpret("ARG BASE\nFROM ${BASE}\n" + text, BASE)["config"]


def test_our_own_is_read_and_has_no_run() -> None:
    text = fill(
        resources.path("Dockerfile.final").read_text(),
        ["layers/python.tar.gz"],
        {"PATH": "/opt/bin:${PATH}", "ODD": 'a "b" $c \\d'},
        {"l.one": "x y"},
    )
    found = interpret(text, BASE)["config"]
    assert found["Env"] == ["PATH=/opt/bin:/bin", "A=1", 'ODD=a "b" $c \\d']
    assert found["Labels"] == {"l.one": "x y"}
    assert found["Entrypoint"] == ["/opt/nvidia/nvidia_entrypoint.sh"]
    assert found["WorkingDir"] == "/opt/tritonserver"
    assert "Cmd" not in found, "a base's CMD is for the base's entry point"
    assert "ADD layers/python.tar.gz /\n" in text


CASES: list[tuple[str, str, Any]] = [
    ("ENV of several pairs sees the old values", 'ENV A=2 B="$A b" C=c\\ d',
     ["PATH=/bin", "A=2", "B=1 b", "C=c d"]),
    ("ENV in the old form", "ENV B the rest  of it", ["PATH=/bin", "A=1", "B=the rest of it"]),
    ("single quotes keep what is in them", "ENV B='$A'", ["PATH=/bin", "A=1", "B=$A"]),
    ("a default, and an alternative", "ENV B=${X:-x}${A:+y}", ["PATH=/bin", "A=1", "B=xy"]),
    ("lines that go on, with a comment between", "ENV B=1 \\\n# why\n  C=2",
     ["PATH=/bin", "A=1", "B=1", "C=2"]),
]  # fmt: skip


@pytest.mark.parametrize(("text", "want"), [c[1:] for c in CASES], ids=[c[0] for c in CASES])
def test_environment(text: str, want: list[str]) -> None:
    assert settings(text)["Env"] == want


def test_the_other_instructions() -> None:
    found = settings(
        "WORKDIR sub\nCMD serve it\nEXPOSE 8000 8001/udp\nUSER ${A}\nVOLUME /models\n"
        "STOPSIGNAL SIGINT"
    )
    assert found["WorkingDir"] == "/w/sub"
    assert found["Cmd"] == ["/bin/sh", "-c", "serve it"]
    assert found["ExposedPorts"] == {"8000/tcp": {}, "8001/udp": {}}
    assert (found["User"], found["StopSignal"]) == ("1", "SIGINT")
    assert found["Volumes"] == {"/models": {}}


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("RUN make", r"RUN 'make' \(line 3 as filled in\) needs a daemon"),
        ("COPY x /", "COPY"),
        ("ADD http://x/y /", "ADD"),
        ("FROM scratch", "FROM"),
        ('ENV A="open', "line 3 .*quote is not closed"),
        ('ENTRYPOINT ["a", 1]', "not a list of texts"),
    ],
)
def test_what_needs_a_daemon_or_is_wrong_is_said_with_its_line(text: str, says: str) -> None:
    with pytest.raises(UsageError, match=says):
        settings(text)


def test_a_template_must_take_the_stages() -> None:
    with pytest.raises(UsageError, match="# assembler: stages"):
        fill("FROM x", [], {}, {})


def test_words() -> None:
    assert words("a 'b c'd \"e $A\" f\\ g", {"A": "1"}) == ["a", "b cd", "e 1", "f g"]
