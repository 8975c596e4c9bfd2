"""Triton model configurations (config.pbtxt) of the models made on the spot, as text."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

Tensor = tuple[str, str, str]
"""A tensor of a configuration: name, data type, dims."""

TOKENS: tuple[Tensor, ...] = (
    ("input_ids", "TYPE_INT64", "-1"),
    ("attention_mask", "TYPE_INT64", "-1"),
    ("token_type_ids", "TYPE_INT64", "-1"),
)
# All that both ONNX and Triton have.
TYPES = (
    *("BOOL", "UINT8", "UINT16", "UINT32", "UINT64", "INT8", "INT16", "INT32", "INT64"),
    *("FP16", "FP32", "FP64", "STRING"),
)
LABELS = ("просьба", "вопрос", "жалоба")
_TEXT: Tensor = ("text_input", "TYPE_STRING", "1")
_LOGITS: Tensor = ("logits", "TYPE_FP32", str(len(LABELS)))
_LABEL: Tensor = ("label", "TYPE_STRING", "1")


def _tensors(field: str, tensors: Iterable[Tensor]) -> str:
    entries = ",\n".join(
        f'  {{ name: "{name}" data_type: {kind} dims: [ {dims} ] }}' for name, kind, dims in tensors
    )
    return f"{field} [\n{entries}\n]\n"


def _config(
    name: str,
    runner: str,
    inputs: Iterable[Tensor],
    outputs: Iterable[Tensor],
    batch: int,
    *more: str,
) -> str:
    """One configuration; ``runner`` is the line that names the backend or the platform."""
    head = f'name: "{name}"\n{runner}\nmax_batch_size: {batch}\n'
    return head + _tensors("input", inputs) + _tensors("output", outputs) + "".join(more)


def _step(model: str, inputs: Mapping[str, str], outputs: Mapping[str, str]) -> str:
    maps = [
        f'      input_map {{ key: "{key}" value: "{value}" }}\n' for key, value in inputs.items()
    ]
    maps += [
        f'      output_map {{ key: "{key}" value: "{value}" }}\n' for key, value in outputs.items()
    ]
    return f'    {{\n      model_name: "{model}"\n      model_version: -1\n{"".join(maps)}    }}'


def _ensemble() -> str:
    tokens = {name: name for name, _, _ in TOKENS}
    steps = ",\n".join(
        (
            _step("text_preprocessing", {"text_input": "text_input"}, tokens),
            _step("model_onnx", tokens, {"logits": "logits"}),
            _step("post_processing", {"logits": "logits"}, {"label": "label"}),
        )
    )
    schedule = f"ensemble_scheduling {{\n  step [\n{steps}\n  ]\n}}\n"
    return _config("ensemble_model", 'platform: "ensemble"', [_TEXT], [_LABEL], 4, schedule)


_DECOUPLED = "model_transaction_policy { decoupled: true }\n"
# With one slot only, as `direct` has it here, a second sequence would wait for the first one's end.
_SEQUENCE = """sequence_batching {
  oldest { max_candidate_sequences: 4 }
  control_input [
    { name: "START" control [ { kind: CONTROL_SEQUENCE_START fp32_false_true: [ 0, 1 ] } ] }
  ]
}
"""

# The backends that serve each model.
BACKENDS = {
    "add_fp32": {"onnxruntime"},
    "every_type": {"onnxruntime"},
    "no_config": {"onnxruntime"},
    "echo": {"python"},
    "every_type_python": {"python"},
    "countdown": {"python"},
    "running_sum": {"python"},
    "calls_echo": {"python"},
    "text_preprocessing": {"python"},
    "post_processing": {"python"},
    "model_onnx": {"onnxruntime"},
    "ensemble_model": {"python", "onnxruntime"},
}


def models_for(backends: Iterable[str]) -> list[str]:
    """The models that an image with these backends can serve."""
    return [model for model, needed in BACKENDS.items() if needed <= set(backends)]


def configurations() -> dict[str, str]:
    """The text of config.pbtxt by model; ``no_config`` is missing on purpose."""
    # Both ways to name the ONNX backend are in use downstream, so each gets a model.
    onnx_platform = 'platform: "onnxruntime_onnx"\nbackend: "onnxruntime"'
    onnx_backend = 'backend: "onnxruntime"'
    python = 'backend: "python"'
    # Without KIND_CPU a build that knows about GPUs would look for one.
    cpu = "instance_group [ { count: 1 kind: KIND_CPU } ]\n"
    labels = f'parameters {{ key: "labels" value: {{ string_value: "{",".join(LABELS)}" }} }}\n'
    add_in: list[Tensor] = [("X", "TYPE_FP32", "-1"), ("K", "TYPE_INT64", "-1")]
    add_out: list[Tensor] = [("Y", "TYPE_FP32", "-1"), ("Z", "TYPE_INT64", "-1")]
    echo_in: list[Tensor] = [("TEXT", "TYPE_STRING", "-1"), ("VALUES", "TYPE_FP32", "-1")]
    echo_out: list[Tensor] = [
        ("TEXT_UPPER", "TYPE_STRING", "-1"),
        ("VALUES_DOUBLED", "TYPE_FP32", "-1"),
        ("SUM", "TYPE_FP32", "1"),
    ]
    every_in, every_out = (
        [(f"{way}_{kind}", f"TYPE_{kind}", "-1") for kind in TYPES] for way in ("IN", "OUT")
    )
    number_in: list[Tensor] = [("N", "TYPE_INT32", "1")]
    number_out: list[Tensor] = [("M", "TYPE_INT32", "1")]
    return {
        "every_type_python": _config("every_type_python", python, every_in, every_out, 4, cpu),
        "countdown": _config("countdown", python, number_in, number_out, 0, cpu, _DECOUPLED),
        "running_sum": _config("running_sum", python, number_in, number_out, 1, cpu, _SEQUENCE),
        "calls_echo": _config("calls_echo", python, echo_in, echo_out, 0, cpu),
        "add_fp32": _config("add_fp32", onnx_platform, add_in, add_out, 4, cpu),
        "every_type": _config("every_type", onnx_backend, every_in, every_out, 4, cpu),
        "echo": _config("echo", python, echo_in, echo_out, 0, cpu),
        "text_preprocessing": _config("text_preprocessing", python, [_TEXT], TOKENS, 4, cpu),
        "model_onnx": _config("model_onnx", onnx_backend, TOKENS, [_LOGITS], 4, cpu),
        "post_processing": _config("post_processing", python, [_LOGITS], [_LABEL], 4, cpu, labels),
        "ensemble_model": _ensemble(),
    }
