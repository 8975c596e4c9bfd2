"""A server that refuses a request, or goes away: a failed row, and the rows before it stay."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import requests

from assembler.verify import against, models
from assembler.verify.checks import Report
from assembler.verify.container import Limits
from assembler.verify.requests import Request
from assembler.verify.serving.client import Client
from assembler.verify.started import Subject

Said = tuple[int, bytes] | Exception
GOOD = (200, b'{"outputs": [{"name": "B", "data": [1.5]}]}')
REFUSED = (400, b'{"error": "unexpected shape"}')
ASKED = Request(1, "m", "", {"inputs": []}, None)


@pytest.fixture
def answers(monkeypatch: pytest.MonkeyPatch) -> Iterator[dict[str, Said]]:
    """What the server of each image says to every POST, in the place of containers."""
    said: dict[str, Said] = {}
    clients: list[Client] = []

    @contextmanager
    def serve(image: str, *_: Any, **__: Any) -> Iterator[Any]:
        client = Client("127.0.0.1")
        clients.append(client)

        def post(*_: Any, **__: Any) -> requests.Response:
            what = said[image]
            if isinstance(what, Exception):
                raise what
            answer = requests.Response()
            answer.status_code, answer._content = what
            return answer

        monkeypatch.setattr(client.session, "post", post)
        yield SimpleNamespace(client=client, ready_seconds=1.0)

    monkeypatch.setattr("assembler.verify.serving.server.serve", serve)
    monkeypatch.setattr(against, "_ask", lambda *_, **__: None)
    yield said
    for client in clients:
        client.close()


def rows(report: Report) -> dict[str, tuple[str, str]]:
    return {row.name: (row.status, row.text) for row in report.results}


@pytest.mark.parametrize(
    ("slim", "full", "expected"),
    [
        (GOOD, GOOD, ("ok", "32 bytes, bit for bit")),
        (REFUSED, GOOD, ("failed", 'slim refuses it with HTTP 400 ({"error": "unexpected shape"}), '
                                   "full answers with HTTP 200")),
        (GOOD, (503, b""), ("failed", "slim answers with HTTP 200, full refuses it with HTTP 503")),
        (REFUSED, REFUSED, ("ok", "both refuse it with HTTP 400: 29 bytes, bit for bit")),
        (GOOD, requests.ConnectionError("gone"), ("failed", "full gave no answer")),
    ],
)  # fmt: skip
def test_a_refusal_is_compared_like_any_answer(
    answers: dict[str, Said], tmp_path: Path, slim: Said, full: Said, expected: tuple[str, str]
) -> None:
    answers |= {"slim": slim, "full": full}
    report = Report("slim")
    report.add("started", "earlier", "ok", "")
    subjects = [Subject(name, {}, ()) for name in answers]
    against.check(*subjects, report, Limits(), 9, tmp_path, [ASKED])
    found = rows(report)
    assert found["same-request-1-m"] == expected
    assert found["earlier"] == ("ok", "") and "ratio-ready" in found
    assert ("alive" in found) == isinstance(full, Exception)


def test_a_server_that_does_not_tell_its_models_is_a_failed_row(
    answers: dict[str, Said], tmp_path: Path
) -> None:
    answers["slim"] = REFUSED
    report = Report("slim")
    models.check(Subject("slim", {}, ()), tmp_path, [ASKED], report, Limits(), 9)
    said = '/v2/repository/index: HTTP 400: {"error": "unexpected shape"}'
    assert rows(report)["alive"] == ("failed", said)
