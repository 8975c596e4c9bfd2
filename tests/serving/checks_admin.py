"""Checks of everything around inference: health, metadata, counters."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import TYPE_CHECKING

from tests.serving import checks_infer
from tests.serving.checks_settings import until
from tests.serving.configs import configurations

if TYPE_CHECKING:
    from tests.serving.client import Client

_SAMPLE = re.compile(r"^(\w+)(?:\{(.*)\})? ([-+.\deE]+)$", re.MULTILINE)


def _samples(client: Client, metric: str, model: str | None = None) -> list[float]:
    return [
        float(value)
        for name, labels, value in _SAMPLE.findall(client.metrics())
        if name == metric and (model is None or f'model="{model}"' in labels)
    ]


def health(client: Client) -> None:
    """Live and ready on both protocols."""
    for path in ("health/live", "health/ready"):
        assert (status := client.status(path)) == 200, f"{path}: HTTP {status}"
    assert client.grpc.is_server_live(), "not live over gRPC"
    assert client.grpc.is_server_ready(), "not ready over gRPC"


def every_model_ready(client: Client) -> None:
    """A model that failed to load does not show in the server's own health."""
    for model in (*configurations(), "no_config"):
        assert (status := client.status(f"models/{model}/ready")) == 200, f"{model}: HTTP {status}"
        assert client.grpc.is_model_ready(model), f"{model} is not ready over gRPC"


def server_metadata(client: Client) -> None:
    """Name, version and extensions, the same over both protocols."""
    over_http, over_grpc = client.get(""), client.grpc.get_server_metadata()
    assert over_http["name"] == "triton", f"name {over_http['name']!r}"
    assert re.fullmatch(r"2\.\d+\.\d+\w*", over_http["version"]), f"{over_http['version']!r}"
    assert over_grpc.version == over_http["version"], f"gRPC says {over_grpc.version!r}"
    wanted = {"model_repository", "statistics", "trace", "logging", "binary_tensor_data"}
    assert not (missing := wanted - set(over_http["extensions"])), f"extensions lack {missing}"


def model_metadata(client: Client) -> None:
    """Names and types, given ones and those the server found out."""
    expected = {
        "add_fp32": ({("X", "FP32"), ("K", "INT64")}, {("Y", "FP32"), ("Z", "INT64")}),
        "no_config": ({("A", "FP32")}, {("B", "FP32")}),
        "ensemble_model": ({("text_input", "BYTES")}, {("label", "BYTES")}),
    }
    for model, (inputs, outputs) in expected.items():
        answer = client.get(f"models/{model}")
        got = tuple({(t["name"], t["datatype"]) for t in answer[k]} for k in ("inputs", "outputs"))
        assert got == (inputs, outputs), f"{model}: {got}"
        assert client.grpc.get_model_metadata(model).versions == ["1"], f"{model}: gRPC versions"


def model_config(client: Client) -> None:
    """Backend, batch size and device; a made-up configuration must not ask for a GPU."""
    given = client.get("models/add_fp32/config")
    assert given["backend"] == "onnxruntime", f"add_fp32: backend {given['backend']!r}"
    assert given["max_batch_size"] == 4, f"add_fp32: max_batch_size {given['max_batch_size']}"
    for model in ("add_fp32", "no_config", "echo"):
        groups = client.get(f"models/{model}/config")["instance_group"]
        kinds = {group["kind"] for group in groups}
        assert kinds == {"KIND_CPU"}, f"{model}: runs on {sorted(kinds)}"
    over_grpc = client.grpc.get_model_config("no_config").config
    assert over_grpc.backend == "onnxruntime", f"no_config: backend {over_grpc.backend!r}"


def statistics(client: Client) -> None:
    """An inference more is an inference counted."""

    def count() -> int:
        return int(client.get("models/add_fp32/stats")["model_stats"][0]["inference_count"])

    before = count()
    checks_infer.add_http_json(client)  # a batch of two
    # A backend counts after it has answered, so for a moment nothing is counted yet.
    until(f"inference_count from {before} to {before + 2}", lambda: count() == before + 2)
    counted = client.grpc.get_inference_statistics("add_fp32").model_stats[0].inference_count
    assert counted == before + 2, f"gRPC counts {counted}, not {before + 2}"


def metrics(client: Client) -> None:
    """Counters of the model, and the two measurements of the machine."""

    def succeeded() -> float:
        return sum(_samples(client, "nv_inference_request_success", "add_fp32"))

    before = succeeded()
    checks_infer.add_http_json(client)
    until("nv_inference_request_success goes up by one", lambda: succeeded() == before + 1)

    def measured() -> bool:
        load, memory = (
            _samples(client, f"nv_cpu_{name}") for name in ("utilization", "memory_total_bytes")
        )
        return bool(load and memory and 0 <= load[0] <= 1 and memory[0] > 2**20)

    # The machine is measured every two seconds, so just after the start there is nothing yet.
    until("nv_cpu_utilization and nv_cpu_memory_total_bytes", measured)


CHECKS: list[tuple[str, Callable[[Client], None]]] = [
    ("live and ready", health),
    ("every model ready", every_model_ready),
    ("server metadata", server_metadata),
    ("model metadata", model_metadata),
    ("model configuration", model_config),
    ("statistics", statistics),
    ("metrics", metrics),
]
