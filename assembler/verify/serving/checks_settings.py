"""Checks that change the running server: trace and log settings, unloading and loading."""

from __future__ import annotations

import functools
import time
from collections.abc import Callable
from typing import TYPE_CHECKING

from assembler.verify.serving import checks_infer
from assembler.verify.serving.check import Check

if TYPE_CHECKING:
    from assembler.verify.serving.client import Client


def until(what: str, holds: Callable[[], bool], seconds: float = 15) -> None:
    """Return as soon as ``holds()`` does; raise AssertionError with ``what`` after the time."""
    deadline = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < deadline, f"{what}: not within {seconds} s"
        time.sleep(0.2)


def _gone(client: Client, path: str) -> bool:
    return client.status(path) != 200


def trace_settings(client: Client) -> None:
    """Read, change, read again over gRPC, and put back."""
    before = client.get("trace/setting")["trace_rate"]
    client.post("trace/setting", {"trace_rate": "777"})
    try:
        rate = client.get("trace/setting")["trace_rate"]
        assert rate == "777", f"trace_rate stays {rate!r}"
        over_grpc = list(client.grpc.get_trace_settings().settings["trace_rate"].value)
        assert over_grpc == ["777"], f"gRPC says {over_grpc}"
    finally:
        client.post("trace/setting", {"trace_rate": before})


def log_settings(client: Client) -> None:
    """Read, change, read again over gRPC, and put back."""
    before = client.get("logging")["log_verbose_level"]
    client.post("logging", {"log_verbose_level": before + 1})
    try:
        level = client.get("logging")["log_verbose_level"]
        assert level == before + 1, f"log_verbose_level stays {level}"
        setting = client.grpc.get_log_settings().settings["log_verbose_level"]
        assert setting.uint32_param == before + 1, f"gRPC says {setting}"
    finally:
        client.post("logging", {"log_verbose_level": before})


def unload_and_load(client: Client) -> None:
    """Take an ONNX and a Python model away and bring them back, which must answer rightly."""
    models = [model for model in ("no_config", "echo") if model in client.models]
    for model in models:
        ready = f"models/{model}/ready"
        client.post(f"repository/models/{model}/unload")
        until(f"unload {model}", functools.partial(_gone, client, ready))
        client.grpc.load_model(model)
        assert (status := client.status(ready)) == 200, f"{model} is loaded, but HTTP {status}"
    if "no_config" in models:
        checks_infer.no_config_http(client)
    if "echo" in models:
        checks_infer.echo_grpc(client)
    states = {entry["name"]: entry.get("state") for entry in client.post("repository/index")}
    assert all(states[model] == "READY" for model in models), f"repository index: {states}"


CHECKS = [
    Check("trace-settings", trace_settings),
    Check("log-settings", log_settings),
    Check("unload-and-load", unload_and_load),
]
