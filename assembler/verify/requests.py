"""Requests of the user's own: a file of JSON lines, each a request of the v2 protocol.

{"model": "m", "inputs": [{"name": …, "shape": […], "datatype": …, "data": […]}],
 "expected": [{"name": …, "data": […], "shape": […], "datatype": …}]}
`expected` may be left out, and so may `version`, and shape and datatype in `expected`.
"""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from assembler.errors import UsageError
from assembler.verify.checks import Failed

_INPUT = {"name": str, "shape": list, "datatype": str, "data": list}
_TOLERANCE = 1e-5


@dataclass(frozen=True)
class Request:
    """line: of the file. body: what is posted. expected: outputs, or None."""

    line: int
    model: str
    version: str
    body: dict[str, Any]
    expected: tuple[dict[str, Any], ...] | None

    @property
    def path(self) -> str:
        """Where it is posted, below /v2."""
        version = f"/versions/{self.version}" if self.version else ""
        return f"models/{self.model}{version}/infer"


def read(path: Path) -> tuple[Request, ...]:
    """Return the requests of a file; UsageError that names the line which is none."""
    try:
        lines = path.read_text("utf-8").splitlines()
    except OSError as error:
        raise UsageError(f"--requests {path} cannot be read: {error.strerror}") from None
    except UnicodeDecodeError:
        raise UsageError(f"--requests {path} is not UTF-8 text") from None
    found = [
        _request(f"--requests {path}, line {number}", number, line)
        for number, line in enumerate(lines, 1)
        if line.strip()
    ]
    if not found:
        raise UsageError(f"--requests {path} has no request: one JSON object a line")
    return tuple(found)


def _request(where: str, number: int, line: str) -> Request:
    try:
        document = json.loads(line)
    except ValueError as error:
        raise UsageError(f"{where} is not JSON: {error}") from None
    if not isinstance(document, dict) or not isinstance(document.get("model"), str):
        raise UsageError(f'{where} names no model: {{"model": "…", "inputs": […]}}')
    inputs = document.get("inputs")
    if not isinstance(inputs, list) or not inputs:
        raise UsageError(f"{where} has no inputs (a list of name, shape, datatype, data)")
    for tensor in inputs:
        for key, kind in _INPUT.items():
            if not isinstance(tensor, dict) or not isinstance(tensor.get(key), kind):
                raise UsageError(f"{where}: an input has no {key} ({kind.__name__})")
    expected = document.get("expected")
    if expected is not None and not (
        isinstance(expected, list)
        and all(isinstance(e, dict) and isinstance(e.get("name"), str) for e in expected)
        and all(isinstance(e.get("data"), list) for e in expected)
    ):
        raise UsageError(f"{where}: expected is not a list of outputs with name and data")
    rest = {k: v for k, v in document.items() if k not in ("model", "version", "expected")}
    return Request(
        number,
        document["model"],
        str(document.get("version") or ""),
        rest,
        None if expected is None else tuple(expected),
    )


def compare(request: Request, answer: dict[str, Any]) -> str:
    """Return a line about an answer that is as expected; Failed where it is not.

    Floats may differ in their last digits: JSON carries them in decimal.
    """
    outputs = {output["name"]: output for output in answer.get("outputs") or ()}
    if request.expected is None:
        return f"{len(outputs)} outputs"
    for wanted in request.expected:
        name = wanted["name"]
        if name not in outputs:
            raise Failed(f"no output {name}, but {', '.join(sorted(outputs)) or 'none'}")
        got = outputs[name]
        for key in ("shape", "datatype"):
            if key in wanted and wanted[key] != got.get(key):
                raise Failed(f"{name} has {key} {got.get(key)}, expected {wanted[key]}")
        left, right = _flat(got.get("data")), _flat(wanted["data"])
        if len(left) != len(right) or not all(map(_same, left, right)):
            raise Failed(f"{name} is {left[:8]}, expected {right[:8]}")
    return f"{len(request.expected)} outputs as expected"


def _flat(data: Any) -> list[Any]:
    if not isinstance(data, list):
        return [data]
    return [each for item in data for each in _flat(item)]


def _same(left: Any, right: Any) -> bool:
    if isinstance(left, float) or isinstance(right, float):
        try:
            return math.isclose(left, right, rel_tol=_TOLERANCE, abs_tol=1e-8)
        except TypeError:
            return False
    return bool(left == right)
