"""A check has a stable name and ends ok, failed or skipped, with one line that says why."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any, Literal

from assembler.errors import AssemblerError

Status = Literal["ok", "failed", "skipped"]


class Failed(AssertionError):
    """What a check found wrong; the text is for the user."""


class Skipped(Exception):
    """Why a check does not apply to this image."""


@dataclass(frozen=True)
class Result:
    """part: static, started, models or against. name: stable, for scripts. text: one line."""

    part: str
    name: str
    status: Status
    text: str
    seconds: float = 0.0


@dataclass
class Report:
    """What was found of one image. figures: measured, like seconds until ready.

    on_result: told of each result as it comes.
    """

    reference: str
    image_id: str = ""
    platform: str = ""
    release: str = ""
    results: list[Result] = field(default_factory=list)
    figures: dict[str, Any] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    on_result: Callable[[Result], object] = lambda _result: None

    @property
    def holds(self) -> bool:
        """Whether nothing failed, and anything was checked at all."""
        return bool(self.results) and not self.failed

    @property
    def failed(self) -> list[Result]:
        return [result for result in self.results if result.status == "failed"]

    def add(self, part: str, name: str, status: Status, text: str, seconds: float = 0.0) -> None:
        """Note one result; its text becomes one line."""
        result = Result(part, name, status, one_line(text), round(seconds, 3))
        self.results.append(result)
        self.on_result(result)

    def run(self, part: str, name: str, check: Callable[[], str | None]) -> bool:
        """Make a check: what it returns is the text, what it raises the reason of its failure.

        Whatever it raises: a lost connection or an answer of another form is a failed check too.
        """
        start = time.monotonic()
        try:
            text, status = check() or "", "ok"
        except Skipped as reason:
            text, status = str(reason), "skipped"
        except (Failed, AssemblerError) as problem:
            text, status = str(problem), "failed"
        except AssertionError as problem:
            text, status = str(problem) or "an answer is wrong", "failed"
        except Exception as error:
            text, status = f"{type(error).__name__}: {error}", "failed"
        self.add(part, name, status, text, time.monotonic() - start)  # type: ignore[arg-type]
        return status == "ok"


def require(problems: Iterable[str], good: str) -> str:
    """Return `good` where there are no problems; Failed with all of them otherwise, the first few
    in full.
    """
    found = list(dict.fromkeys(problems))
    if found:
        more = f"; and {len(found) - 5} more" if len(found) > 5 else ""
        raise Failed("; ".join(found[:5]) + more)
    return good


def one_line(text: str, limit: int = 600) -> str:
    """Return `text` without line breaks and control characters, cut where it is too long."""
    line = " ".join("".join(c if c.isprintable() or c.isspace() else "?" for c in text).split())
    return line if len(line) <= limit else line[: limit - 1] + "…"
