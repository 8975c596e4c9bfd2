"""The started part: the image serves models made on the spot, and is asked about all of them."""

from __future__ import annotations

import posixpath
import tempfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from assembler.errors import AssemblerError
from assembler.verify.checks import Failed, Report, Skipped
from assembler.verify.container import Limits

if TYPE_CHECKING:
    from assembler.verify.serving.server import Server

PART = "started"
# tritonserver ends within its exit timeout of 30 s when somebody holds a connection open.
_SLOW_STOP = 15.0


@dataclass(frozen=True)
class Subject:
    """An image that the Engine holds. settings: of its config. backends: that it has."""

    image: str
    settings: dict[str, Any]
    backends: tuple[str, ...]

    def command(self, *words: str) -> list[str]:
        """Return the command of a container that runs the server with these words."""
        entry = self.settings.get("Entrypoint") or []
        own = bool(entry) and posixpath.basename(entry[-1]) == "tritonserver"
        return [*([] if own else ["tritonserver"]), "--model-repository=/models", *words]


@contextmanager
def repository(backends: Iterable[str], *, but: Iterable[str] = ()) -> Iterator[Path]:
    """Yield a folder with the models for these backends, without those named."""
    from assembler.verify.serving.models import write_repository

    with tempfile.TemporaryDirectory(prefix="assembler-models-") as folder:
        write_repository(Path(folder), backends, but=but)
        yield Path(folder)


@contextmanager
def serving(
    subject: Subject,
    models: Path,
    report: Report,
    part: str,
    limits: Limits,
    *,
    ready_seconds: float,
    words: Sequence[str] | None = None,
) -> Iterator[Server | None]:
    """Yield a server that is ready, or None where it is not: then a failed row says why.

    What breaks inside the block becomes a failed row as well, so that the rows before it are not
    lost: the Engine, the connection to the server, or an answer that had to be a success.
    """
    from assembler.verify.serving.server import ALL, serve

    step = "ready"
    try:
        with serve(
            subject.image,
            models,
            limits=limits,
            command=subject.command(*(ALL if words is None else words)),
            ready_seconds=ready_seconds,
        ) as server:
            step = "alive"
            report.add(part, "ready", "ok", f"after {server.ready_seconds:.1f} s",
                       server.ready_seconds)  # fmt: skip
            yield server
            return
    except (AssemblerError, AssertionError, OSError) as error:
        report.add(part, step, "failed", str(error) or type(error).__name__)
    if step == "ready":
        yield None


def check(subject: Subject, report: Report, limits: Limits, ready_seconds: float) -> None:
    """Start the image, make every check that its backends allow, stop it."""
    from assembler.verify.serving.all_checks import CHECKS
    from assembler.verify.serving.configs import BACKENDS, models_for

    models = models_for(subject.backends)
    for name in sorted(set(subject.backends) - set().union(*BACKENDS.values())):
        report.add(PART, f"backend-{name}", "skipped", f"verify has no model for backend {name}")
    if not models:
        report.add(PART, "ready", "skipped", "no model for any backend of this image")
        return
    with (
        repository(subject.backends) as folder,
        serving(subject, folder, report, PART, limits, ready_seconds=ready_seconds) as server,
    ):
        if server is None:
            return
        server.client.models = tuple(models)
        report.figures["ready_seconds"] = round(server.ready_seconds, 3)
        report.run(PART, "entrypoint-folder", lambda: _folder(server, subject))
        for each in CHECKS:
            if each.model and each.model not in models:
                needed = " and ".join(sorted(BACKENDS[each.model]))
                report.add(PART, each.name, "skipped", f"needs the backends {needed}")
            elif not report.run(PART, each.name, _asked(server, each.make)):
                alive(server)
        report.run(PART, "shared-memory", lambda: _shared_memory(server))
        report.run(PART, "clean-stop", lambda: stop(server))


def _asked(server: Server, make: Callable[[Any], None]) -> Callable[[], None]:
    return lambda: make(server.client)


def alive(server: Server) -> None:
    """Raise Failed when the container has ended, and what is left to ask cannot be asked."""
    from assembler.verify.serving.server import ServerError

    state = server.container.state
    if not state["Running"]:
        why = "it was out of memory" if state.get("OOMKilled") else server.complaint()
        if server.container.timed_out.is_set():
            why = "its time was over (--timeout)"
        raise ServerError(f"the container ended with status {state['ExitCode']}: {why}")


def _folder(server: Server, subject: Subject) -> str:
    """The server's working folder is the image's: the entry point has not changed it."""
    from assembler.engine import EngineError

    wanted = subject.settings.get("WorkingDir") or "/"
    try:
        found = server.container.execute("readlink", "/proc/1/cwd").decode().strip()
    except EngineError as error:
        raise Skipped(f"cannot be asked: {error}") from None
    if posixpath.normpath(found) != posixpath.normpath(wanted):
        raise Failed(
            f"the server runs in {found}, not in {wanted}: the entry point changes the folder, and "
            "--model-repository=./ points elsewhere"
        )
    return wanted


def _shared_memory(server: Server) -> str:
    from assembler.verify.serving.checks_memory import shared_memory

    if "no_config" not in server.client.models:
        raise Skipped("needs the backend onnxruntime")
    shared_memory(server.client, server.container.execute)
    return ""


def stop(server: Server) -> str:
    """The server ends by itself after SIGTERM, with status 0."""
    stopped = server.stop()
    if stopped.exit_code:
        raise Failed(f"exit status {stopped.exit_code} after SIGTERM: {server.complaint()}")
    if stopped.seconds > _SLOW_STOP:
        raise Failed(f"it took {stopped.seconds:.1f} s to end after SIGTERM")
    return f"{stopped.seconds:.1f} s after SIGTERM"
