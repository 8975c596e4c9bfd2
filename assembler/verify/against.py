"""Slim against full: the same requests, responses compared bit for bit, both timed in turns.

The turns are slim, full, full, slim (ABBA), so that a machine that gets slower or faster on the
way favours neither.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from assembler.verify import models
from assembler.verify.checks import Failed, Report, one_line
from assembler.verify.container import Limits
from assembler.verify.requests import Request
from assembler.verify.started import Subject, repository, serving

if TYPE_CHECKING:
    from assembler.verify.serving.client import Client, Parts

PART = "against"
_TURNS = ("slim", "full", "full", "slim")
_WARM, _TIMED = 20, 200
# Their responses come in streams and sequences, which the started part asks for.
_UNASKED = ("countdown", "running_sum")


@dataclass
class Side:
    """What was seen of one image. answers: by name of the request, refusals too."""

    ready: list[float] = field(default_factory=list)
    latency: dict[str, list[float]] = field(default_factory=dict)
    answers: dict[str, Parts] = field(default_factory=dict)


def check(
    slim: Subject,
    full: Subject,
    report: Report,
    limits: Limits,
    ready_seconds: float,
    own: Path | None,
    requests: Sequence[Request],
) -> None:
    """Serve both in turns with the models that slim can serve, and own ones; compare, report."""
    sides = {"slim": Side(), "full": Side()}
    subjects = {"slim": slim, "full": full}
    with repository(slim.backends, but=_UNASKED) as made:
        for turn in _TURNS:
            with _server(subjects[turn], made, report, turn, limits, ready_seconds) as client:
                if client is None:
                    return
                sides[turn].ready.append(client.ready)
                first = not sides[turn].answers
                _ask(client.client, slim.backends, sides[turn], first=first)
    if own is not None and requests:
        for turn in subjects:
            with serving(
                subjects[turn], own, report, f"{PART}-{turn}", limits,
                ready_seconds=ready_seconds, words=models.WORDS,
            ) as server:  # fmt: skip
                if server is None:
                    break
                for each in requests:
                    name = f"request-{each.line}-{each.model}"
                    sides[turn].answers[name] = server.client.parts(each.path, each.body)
    for name in {**sides["slim"].answers, **sides["full"].answers}:
        report.run(PART, f"same-{name}", partial(_same, sides, name))
    _figures(sides, report)


@dataclass(frozen=True)
class _Ready:
    client: Client
    ready: float


@contextmanager
def _server(
    subject: Subject, folder: Path, report: Report, turn: str, limits: Limits, seconds: float
) -> Iterator[_Ready | None]:
    with serving(
        subject, folder, report, f"{PART}-{turn}", limits, ready_seconds=seconds
    ) as server:
        yield None if server is None else _Ready(server.client, server.ready_seconds)


def _ask(client: Client, backends: Sequence[str], side: Side, *, first: bool) -> None:
    from assembler.verify.serving.bodies import bodies

    for name, (path, body, headers) in bodies(backends).items():
        if first:
            side.answers[name] = client.parts(path, body, headers)
    for model in ("add_fp32", "echo"):
        name = f"{model}-binary"
        if name not in side.answers or side.answers[name].status != 200:
            continue
        path, body, headers = bodies(backends)[name]
        for _ in range(_WARM):
            client.raw(path, body, headers)
        taken = side.latency.setdefault(model, [])
        for _ in range(_TIMED):
            start = time.perf_counter()
            client.raw(path, body, headers)
            taken.append(time.perf_counter() - start)


def _same(sides: dict[str, Side], name: str) -> str:
    for turn, side in sides.items():
        if name not in side.answers:
            raise Failed(f"{turn} gave no answer")
    (status, slim), (other, full) = (sides[turn].answers[name] for turn in ("slim", "full"))
    if status != other:
        raise Failed(f"slim {_shown(status, slim)}, full {_shown(other, full)}")
    if slim.keys() != full.keys():
        raise Failed(f"outputs {sorted(slim)}, of full {sorted(full)}")
    for output in sorted(slim):
        left, right = slim[output], full[output]
        if left == right:
            continue
        pairs = enumerate(zip(left, right, strict=False))
        at = next((n for n, (a, b) in pairs if a != b), min(len(left), len(right)))
        shown = [one_line(repr(each[max(0, at - 40) : at + 60])) for each in (left, right)]
        raise Failed(f"{output or 'the answer'} differs: slim {shown[0]}, full {shown[1]}")
    what = "" if status == 200 else f"both refuse it with HTTP {status}: "
    return f"{what}{sum(map(len, slim.values()))} bytes, bit for bit"


def _shown(status: int, outputs: dict[str, bytes]) -> str:
    if status == 200:
        return "answers with HTTP 200"
    said = one_line(outputs[""].decode(errors="replace"), 200)
    return f"refuses it with HTTP {status}{said and f' ({said})'}"


def _figures(sides: dict[str, Side], report: Report) -> None:
    """Report medians and their ratios, slim over full."""
    pairs = {"ready": (sides["slim"].ready, sides["full"].ready)}
    for model, taken in sides["slim"].latency.items():
        pairs[f"latency-{model}"] = (taken, sides["full"].latency.get(model, []))
    for name, (left, right) in pairs.items():
        if not (left and right):
            continue
        slim, full = statistics.median(left), statistics.median(right)
        report.figures[name] = {
            "slim": round(slim, 6),
            "full": round(full, 6),
            "ratio": round(slim / full, 3),
        }
        report.add(
            PART, f"ratio-{name}", "ok",
            f"{slim / full:.2f}: slim {slim * 1000:.2f} ms, full {full * 1000:.2f} ms",
        )  # fmt: skip
