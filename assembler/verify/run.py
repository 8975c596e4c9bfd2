"""The whole of `assembler verify`: read, start, ask, compare."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Callable
from contextlib import ExitStack, closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from assembler import interrupts, oci
from assembler.caching.cache import Cache
from assembler.engine import EngineError, answers, connect, engine_errors
from assembler.errors import UsageError
from assembler.papers import finding
from assembler.sources import Source
from assembler.sources.opening import Access
from assembler.verify import against, models, started, static, subject
from assembler.verify.checks import Report, Result
from assembler.verify.container import Limits, sweep
from assembler.verify.requests import Request


@dataclass(frozen=True)
class Plan:
    """What is asked of `verify`. cache: where `extract` leaves records, None for nowhere.

    record: a file, in the place of the record that is found. requests: for model_repository.
    """

    image: str
    platform: oci.Platform
    access: Access
    static_only: bool = False
    against: str | None = None
    model_repository: Path | None = None
    requests: tuple[Request, ...] = ()
    record: Path | None = None
    cache: Path | None = None
    limits: Limits = field(default_factory=Limits)
    ready_seconds: float = 120.0


def verify(plan: Plan, on_result: Callable[[Result], object] = lambda _: None) -> Report:
    """Make all checks and return their report; `on_result` is told of each.

    Raises AssemblerError where an image cannot be read, or is no Triton.
    """
    starts = not plan.static_only
    if starts:
        from assembler.verify.serving import needed

        needed()
    if plan.model_repository is not None:
        models.check_folder(plan.model_repository)
    report = Report(plan.image, on_result=on_result)
    here = starts and _engine(plan, report)
    reference = subject.parse(plan.image)
    with ExitStack() as stack:
        scratch = _scratch(stack)
        opened = stack.enter_context(plan.access.open(reference, plan.platform))
        # A name that nobody knows is told before minutes of checks.
        full = _opened(plan, plan.against, stack) if plan.against else None
        cache = Cache(plan.cache, lambda _: None)
        record, _ = finding.find(plan.record, reference, opened, plan.access, cache, derived=False)
        source = subject.on_disk(opened, scratch, starts=here)
        files = static.check(source, record, scratch, report)
        report.image_id = getattr(source, "id", "") or oci.sha256(source.config)
        report.platform = str(plan.platform)
        if here:
            image = stack.enter_context(subject.held(source, plan.platform))
            slim = started.Subject(image, files.settings, tuple(files.backends()))
            started.check(slim, report, plan.limits, plan.ready_seconds)
            _own(plan, slim, report)
            if full is not None:
                _against(plan, slim, _loaded(plan, full, scratch / "full", stack), report)
    return report


def _own(plan: Plan, slim: started.Subject, report: Report) -> None:
    if plan.model_repository is not None:
        models.check(
            slim, plan.model_repository, plan.requests, report, plan.limits, plan.ready_seconds
        )


def _against(plan: Plan, slim: started.Subject, full: started.Subject, report: Report) -> None:
    against.check(
        slim, full, report, plan.limits, plan.ready_seconds, plan.model_repository, plan.requests
    )


def _opened(plan: Plan, text: str, stack: ExitStack) -> Source:
    return stack.enter_context(plan.access.open(subject.parse(text), plan.platform))


def _loaded(plan: Plan, opened: Source, scratch: Path, stack: ExitStack) -> started.Subject:
    """Return the full image as the Engine holds it."""
    source = subject.on_disk(opened, scratch, starts=True)
    settings: dict[str, Any] = json.loads(source.config).get("config") or {}
    image = stack.enter_context(subject.held(source, plan.platform))
    return started.Subject(image, settings, ())


def obstacle(platform: oci.Platform) -> str:
    """Return why an image for `platform` cannot be started here; "" where it can."""
    if not answers():
        return "no Docker Engine answers here"
    with closing(connect()) as client, engine_errors("asking the Engine"):
        machine = str(client.version().get("Arch", ""))
        sweep(client)
    if machine and machine != platform.architecture:
        return f"the Engine runs {machine}, the image is for {platform}"
    return ""


def _engine(plan: Plan, report: Report) -> bool:
    """Tell whether the image can be started here; where it cannot, the report says why."""
    why = obstacle(plan.platform)
    if not why:
        return True
    if plan.against or plan.model_repository:
        raise EngineError(
            f"{why}, and --against and --model-repository start containers: start one "
            "or set DOCKER_HOST, or say --static"
        )
    report.notes.append(f"static part alone: {why}")
    report.add("started", "ready", "skipped", f"{why}: the static part alone was done")
    return False


def _scratch(stack: ExitStack) -> Path:
    with interrupts.held():
        made = tempfile.TemporaryDirectory(prefix="assembler-verify-", ignore_cleanup_errors=True)
        return Path(stack.enter_context(made))


def check_words(plan: Plan) -> None:
    """Raise UsageError for words that contradict each other."""
    if plan.static_only and (plan.against or plan.model_repository):
        raise UsageError("--static starts nothing: leave out --against and --model-repository")
    if plan.requests and plan.model_repository is None:
        raise UsageError("--requests FILE asks models of your own: add --model-repository DIR")
