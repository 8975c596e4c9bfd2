"""Checks of everything around inference: health, metadata, counters."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import numpy as np

from assembler.verify.serving import checks_infer
from assembler.verify.serving.check import Check
from assembler.verify.serving.checks_settings import until

if TYPE_CHECKING:
    from assembler.verify.serving.client import Client
    from assembler.verify.serving.wire import Arrays

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
    for model in client.models:
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
        if model not in client.models:
            continue
        answer = client.get(f"models/{model}")
        got = tuple({(t["name"], t["datatype"]) for t in answer[k]} for k in ("inputs", "outputs"))
        assert got == (inputs, outputs), f"{model}: {got}"
        assert client.grpc.get_model_metadata(model).versions == ["1"], f"{model}: gRPC versions"


def model_config(client: Client) -> None:
    """Backend, batch size and device; a made-up configuration must not ask for a GPU."""
    for model in {"add_fp32", "no_config", "echo"}.intersection(client.models):
        config = client.get(f"models/{model}/config")
        backend = "python" if model == "echo" else "onnxruntime"
        assert config["backend"] == backend, f"{model}: backend {config['backend']!r}"
        kinds = {group["kind"] for group in config["instance_group"]}
        assert kinds == {"KIND_CPU"}, f"{model}: runs on {sorted(kinds)}"
        over_grpc = client.grpc.get_model_config(model).config
        assert over_grpc.backend == backend, f"{model}: backend {over_grpc.backend!r} over gRPC"
        size = config["max_batch_size"]
        assert size == over_grpc.max_batch_size, f"{model}: max_batch_size {size} and another"


def _asked(client: Client) -> tuple[str, int]:
    """Ask some model; return its name and how many inferences that was. Whether the answer is
    right is another check's.
    """
    if "add_fp32" in client.models:
        zeros: Arrays = {"X": np.zeros((2, 3), np.float32), "K": np.zeros((2, 2), np.int64)}
        client.infer_json("add_fp32", zeros)
        return "add_fp32", 2  # a batch of two
    text: Arrays = {"TEXT": checks_infer.text_array("x"), "VALUES": np.zeros(1, np.float32)}
    client.infer_json("echo", text)
    return "echo", 1


def statistics(client: Client) -> None:
    """An inference more is an inference counted."""
    model, _ = _asked(client)

    def count() -> int:
        return int(client.get(f"models/{model}/stats")["model_stats"][0]["inference_count"])

    # A backend counts after it has answered, so for a moment nothing is counted yet.
    until(f"inference_count of {model} is not 0", lambda: count() > 0)
    before = count()
    wanted = before + _asked(client)[1]
    until(f"inference_count from {before} to {wanted}", lambda: count() == wanted)
    counted = client.grpc.get_inference_statistics(model).model_stats[0].inference_count
    assert counted == wanted, f"gRPC counts {counted}, not {wanted}"


def metrics(client: Client) -> None:
    """Counters of the model, and the two measurements of the machine."""
    model, _ = _asked(client)

    def succeeded() -> float:
        return sum(_samples(client, "nv_inference_request_success", model))

    until(f"nv_inference_request_success of {model} is not 0", lambda: succeeded() > 0)
    before = succeeded()
    _asked(client)
    until("nv_inference_request_success goes up by one", lambda: succeeded() == before + 1)

    def measured() -> bool:
        load, memory = (
            _samples(client, f"nv_cpu_{name}") for name in ("utilization", "memory_total_bytes")
        )
        return bool(load and memory and 0 <= load[0] <= 1 and memory[0] > 2**20)

    # The machine is measured every two seconds, so just after the start there is nothing yet.
    until("nv_cpu_utilization and nv_cpu_memory_total_bytes", measured)


CHECKS = [
    Check("health", health),
    Check("models-ready", every_model_ready),
    Check("server-metadata", server_metadata),
    Check("model-metadata", model_metadata),
    Check("model-config", model_config),
    Check("statistics", statistics),
    Check("metrics", metrics),
]
