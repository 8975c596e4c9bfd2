"""Parts of `verify` that need no image: requests, reports, scripts, answers taken apart."""

from __future__ import annotations

import json
import xml.etree.ElementTree as ElementTree
from pathlib import Path

import pytest

from assembler.errors import UsageError
from assembler.verify import report as reports
from assembler.verify import requests
from assembler.verify.checks import Failed, Report, Skipped, require
from assembler.verify.models import check_folder
from assembler.verify.scripts import changes_folder
from assembler.verify.serving.wire import apart
from assembler.verify.subject import parse
from tests.conftest import run

INPUT = {"name": "A", "shape": [1], "datatype": "FP32", "data": [1.5]}


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("", "has no request"),
        ("{", "line 1 is not JSON"),
        ("[]", "line 1 names no model"),
        ('{"model": 1, "inputs": []}', "line 1 names no model"),
        ('{"model": "m"}', "line 1 has no inputs"),
        ('{"model": "m", "inputs": [1]}', "an input has no name"),
        (json.dumps({"model": "m", "inputs": [INPUT | {"data": 1}]}), "an input has no data"),
        (json.dumps({"model": "m", "inputs": [INPUT], "expected": [{}]}), "expected is not a list"),
        ("\xff", "is not JSON"),
    ],
)
def test_a_malformed_file_of_requests_is_refused(tmp_path: Path, line: str, said: str) -> None:
    file = tmp_path / "requests"
    file.write_text(line)
    with pytest.raises(UsageError, match=said):
        requests.read(file)


@pytest.mark.parametrize(
    ("expected", "wrong"),
    [
        (None, ""),
        ([{"name": "B", "data": [1, 2]}], ""),
        ([{"name": "B", "data": [[1], [2.0000001]]}], ""),
        ([{"name": "B", "data": [1, 2], "shape": [2], "datatype": "FP32"}], ""),
        ([{"name": "B", "data": [1, 3]}], r"B is \[1.0, 2.0\], expected \[1, 3\]"),
        ([{"name": "B", "data": [1]}], "B is"),
        ([{"name": "B", "data": ["1", "2"]}], "B is"),
        ([{"name": "B", "data": [1, 2], "shape": [1, 2]}], "B has shape"),
        ([{"name": "C", "data": [1]}], "no output C, but B"),
    ],
)
def test_answers_are_compared_with_expected_ones(
    tmp_path: Path, expected: object, wrong: str
) -> None:
    file = tmp_path / "requests"
    document = {"model": "m", "inputs": [INPUT], "version": 2, "id": "x"}
    file.write_text(json.dumps(document | ({"expected": expected} if expected else {})))
    (request,) = requests.read(file)
    assert request.path == "models/m/versions/2/infer"
    assert request.body == {"inputs": [INPUT], "id": "x"}
    answer = {"outputs": [{"name": "B", "datatype": "FP32", "shape": [2], "data": [1.0, 2.0]}]}
    if wrong:
        with pytest.raises(Failed, match=wrong):
            requests.compare(request, answer)
    else:
        assert "outputs" in requests.compare(request, answer)


@pytest.mark.parametrize(
    ("script", "line"),
    [
        ('exec "$@"', 0),
        ("cd /models\nexec x", 1),
        ("true\n  cd models", 2),
        ("[ -d x ] && cd x", 1),
        ("if true; then cd x; fi", 1),
        ("pushd x", 1),
        ("# cd x", 0),
        ('here="$(cd "$(dirname "$0")" && pwd)"', 0),
        ("( cd x; y )", 0),
        ("(\n  cd x\n  y\n)", 0),
        ("cd x\ny\ncd -", 0),
        ("echo 'then cd x'", 0),
        ("lcd x", 0),
        ('case "$1" in\n  a) b ;;\nesac\ncd /', 4),
    ],
)
def test_scripts_that_change_the_folder(script: str, line: int) -> None:
    assert changes_folder(f"#!/bin/bash\n{script}\n") == (line and line + 1)


def a_report() -> Report:
    report = Report("image", "sha256:1", "linux/amd64", "24.05")
    report.run("static", "good", lambda: "all [of] it")
    report.run("static", "bad", lambda: require(["one", "two\x1b[31m\nlines"], ""))
    report.run("started", "lost", lambda: {}["x"])

    def no() -> str:
        raise Skipped("no backend")

    report.run("started", "left", no)
    return report


def test_a_report_in_its_three_forms(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    report = a_report()
    assert not report.holds
    document = reports.document(report)
    assert [(c["name"], c["status"], c["text"]) for c in document["checks"]] == [
        ("good", "ok", "all [of] it"),
        ("bad", "failed", "one; two?[31m lines"),
        ("lost", "failed", "KeyError: 'x'"),
        ("left", "skipped", "no backend"),
    ]
    reports.table(report)
    assert "image: does NOT hold (1 ok, 2 failed, 1 skipped)" in capsys.readouterr().out
    reports.write_junit(report, tmp_path / "x.xml", 1.5)
    top = ElementTree.parse(tmp_path / "x.xml").getroot()
    assert {key: top.get(key) for key in ("tests", "failures", "skipped")} == {
        "tests": "4", "failures": "2", "skipped": "1",
    }  # fmt: skip
    assert [suite.get("name") for suite in top] == ["verify.static", "verify.started"]


def test_nothing_checked_does_not_hold() -> None:
    assert not Report("image").holds


def test_an_answer_taken_apart_has_its_bytes_by_output() -> None:
    head = json.dumps(
        {
            "model_name": "m",
            "outputs": [
                {"name": "B", "parameters": {"binary_data_size": 2}},
                {"name": "A", "parameters": {"binary_data_size": 3}},
            ],
        }
    ).encode()
    found = apart(head + b"bbaaa", str(len(head)))
    assert found["A"].endswith(b"aaa")
    assert found["B"].endswith(b"bb")
    assert found[""] == b'{"model_name": "m"}'
    assert apart(b'{"outputs": [{"name": "A", "data": [1.10]}]}', None)["A"] == (
        b'{"data": ["1.10"], "name": "A"}'
    )


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--static", "--against", "x"], "--static starts nothing"),
        (["--requests", "{requests}"], "add --model-repository"),
        (["--requests", "{empty}/none"], "cannot be read"),
        (["--model-repository", "{empty}"], "has no model"),
        (["--platform", "x"], "--platform"),
        (["--timeout", "0"], "more than 0"),
        (["--timeout", "nan"], "more than 0"),
        (["--memory", "x"], "like 512m or 4g"),
        (["--shm-size", "0"], "like 512m or 4g"),
        (["--record", "{requests}", "--static"], "is no record"),
        (["--provenance", "--junit", "{empty}/j.xml"], "--junit with --provenance"),
        (["--provenance", "--model-repository", "{empty}"], "--model-repository with"),
        (["--provenance", "--against", "x"], "--against with --provenance"),
        (["--provenance", "--static"], "--static with --provenance"),
        (["--provenance", "--ready-timeout", "9"], "--ready-timeout with --provenance"),
    ],
)
def test_wrong_usage_is_one_line(tmp_path: Path, words: list[str], said: str) -> None:
    (tmp_path / "empty").mkdir()
    file = tmp_path / "requests"
    file.write_text(json.dumps({"model": "m", "inputs": [INPUT]}))
    fills = {"requests": file, "empty": tmp_path / "empty"}
    from tests.integration import small

    image = small.full(tmp_path / "image")
    done = run("verify", f"oci:{image}", *(word.format(**fills) for word in words))
    assert done.returncode == 2, done.stderr
    assert done.stderr.startswith("assembler: ")
    assert done.stderr.count("\n") == 1
    assert said in done.stderr


def test_what_is_no_triton_and_what_is_for_another_machine(tmp_path: Path) -> None:
    from tests.integration import small

    # A path alone names a layout as well.
    done = run("verify", small.base(tmp_path / "base"), "--static")
    assert (done.returncode, done.stderr.count("\n")) == (1, 1)
    assert "is no Triton image: it has no /opt/tritonserver" in done.stderr
    arm = small.full(tmp_path / "arm", architecture="arm64")
    done = run("verify", f"oci:{arm}", "--static")
    assert done.returncode == 1
    assert "has no image for linux/amd64; it has linux/arm64" in done.stderr


@pytest.mark.parametrize(
    ("text", "transport"),
    [
        ("slim.tar", "docker-archive"),
        ("./slim", "docker-archive"),
        ("{folder}", "oci"),
        ("oci-archive:slim.tar", "oci-archive"),
        ("oci:{folder}", "oci"),
    ],
)
def test_a_path_names_a_file_unless_a_transport_says_more(
    tmp_path: Path, text: str, transport: str
) -> None:
    (tmp_path / "oci-layout").touch()
    assert parse(text.format(folder=tmp_path)).transport == transport


def test_a_repository_that_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="cannot be read"):
        check_folder(tmp_path / "none")
