"""The user's own models: they load, and answer the requests there are."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from assembler.errors import UsageError
from assembler.verify.checks import Failed, Report
from assembler.verify.container import Limits
from assembler.verify.requests import Request, compare
from assembler.verify.started import Subject, alive, serving, stop

if TYPE_CHECKING:
    from assembler.verify.serving.server import Server

PART = "models"
# A model that does not load must not take the others' rows with it.
WORDS = ("--exit-on-error=false", "--strict-readiness=false")


def check_folder(folder: Path) -> None:
    """Raise UsageError unless a folder has folders, as a repository of models has."""
    try:
        models = [each for each in folder.iterdir() if each.is_dir()]
    except OSError as error:
        raise UsageError(f"--model-repository {folder} cannot be read: {error.strerror}") from None
    if not models:
        raise UsageError(
            f"--model-repository {folder} has no model: a folder for each, with config.pbtxt and "
            "the files of its versions in 1/, 2/, …"
        )


def check(
    subject: Subject,
    folder: Path,
    requests: Sequence[Request],
    report: Report,
    limits: Limits,
    ready_seconds: float,
) -> None:
    """Serve `folder` and make a row for each model and each request."""
    with serving(
        subject, folder, report, PART, limits, ready_seconds=ready_seconds, words=WORDS
    ) as server:
        if server is None:
            return
        index = server.client.post("repository/index") or []
        known = {entry["name"] for entry in index}
        for name in sorted({each.name for each in folder.iterdir() if each.is_dir()} | known):
            states = [entry for entry in index if entry["name"] == name]
            report.run(PART, f"model-{name}", partial(_loaded, server, name, states))
        for request in requests:
            name = f"request-{request.line}-{request.model}"
            if not report.run(PART, name, partial(_answer, server, request)):
                alive(server)
        report.run(PART, "clean-stop", lambda: stop(server))


def _loaded(server: Server, name: str, states: list[dict[str, Any]]) -> str:
    if not states:
        raise Failed("the server does not know it: is config.pbtxt there, and a version folder?")
    versions = []
    for entry in states:
        if entry.get("state") == "READY":
            versions.append(str(entry.get("version", "")))
        elif entry.get("state") != "UNAVAILABLE" or entry.get("reason") != "unloaded":
            raise Failed(
                f"{entry.get('state') or 'not loaded'}: {entry.get('reason', 'no reason')}"
            )
    if not versions or server.client.status(f"models/{name}/ready") != 200:
        raise Failed("it is not ready")
    return f"version {', '.join(filter(None, versions))} ready"


def _answer(server: Server, request: Request) -> str:
    return compare(request, server.client.post(request.path, request.body))
