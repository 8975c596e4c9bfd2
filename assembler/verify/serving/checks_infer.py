"""Checks that send tensors and compare what comes back with values computed here."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np
from tritonclient.utils import triton_to_np_dtype

from assembler.verify.serving.check import Check
from assembler.verify.serving.configs import TYPES
from assembler.verify.serving.models import expected_label

if TYPE_CHECKING:
    from assembler.verify.serving.client import Client
    from assembler.verify.serving.wire import Array, Arrays

    Infer = Callable[[str, Arrays], Arrays]

TEXTS = ("помогите мне", "Почему не работает заказ?", "it does not work at all", "straße 🙂")


def text_array(*rows: str) -> Array:
    """Texts as a tensor of one dimension."""
    return np.array(rows, dtype=np.object_)


def _expect(what: str, outputs: Arrays, expected: Arrays) -> None:
    """The same names, types, shapes and values: all sums here are exact, so no tolerance."""
    assert set(outputs) == set(expected), f"{what}: outputs {sorted(outputs)}"
    for name, right in expected.items():
        got = outputs[name]
        assert got.dtype == right.dtype, f"{what}: {name} is {got.dtype}, not {right.dtype}"
        assert got.shape == right.shape, f"{what}: {name} has shape {got.shape}, not {right.shape}"
        assert np.array_equal(got, right), (
            f"{what}: {name} is {got.tolist()}, expected {right.tolist()}"
        )


def _add_fp32(infer: Infer, width: int = 3) -> None:
    # Every element differs, so a repeated or shifted one shows; the integers do not fit a double.
    x = np.arange(1, 2 * width + 1, dtype=np.float32).reshape(2, width) / 4
    k = np.array([[1, -2], [2**60 + 1, -(2**60) - 3]], dtype=np.int64)
    expected = {"Y": x * np.float32(2) + np.float32(1), "Z": k * 3 - 1}
    _expect("add_fp32", infer("add_fp32", {"X": x, "K": k}), expected)


def _no_config(infer: Infer) -> None:
    a = np.arange(8, dtype=np.float32).reshape(2, 4)
    _expect("no_config", infer("no_config", {"A": a}), {"B": a * a - np.float32(3)})


def every_type_arrays() -> Arrays:
    """One array of each type, from one end of the type to the other, so that a lost sign or half
    of the bytes shows.
    """
    sent: Arrays = {}
    for kind in TYPES:
        if kind == "STRING":
            sent[kind] = text_array(*TEXTS).reshape(2, 2)
        else:
            least, most = _ends(np.dtype(triton_to_np_dtype(kind)))
            sent[kind] = np.stack([least, most, most, least]).reshape(2, 2)
    return sent


def _every_type(infer: Infer, model: str = "every_type") -> None:
    sent = every_type_arrays()
    answer = infer(model, {f"IN_{kind}": array for kind, array in sent.items()})
    _expect(model, answer, {f"OUT_{kind}": array for kind, array in sent.items()})


def _ends(kind: np.dtype[Any]) -> tuple[Any, Any]:
    if kind == np.bool_:
        return np.False_, np.True_
    info: Any = np.finfo(kind) if kind.kind == "f" else np.iinfo(kind)
    return kind.type(info.min), kind.type(info.max)


def expect_echo(infer: Infer, model: str = "echo") -> None:
    values = np.array([1, 2.5, -3, 4, 5, 6.25], dtype=np.float32)
    expected = {
        "TEXT_UPPER": text_array(*(text.upper() for text in TEXTS)),
        "VALUES_DOUBLED": values * 2,
        "SUM": np.array([15.75], dtype=np.float32),
    }
    _expect(model, infer(model, {"TEXT": text_array(*TEXTS), "VALUES": values}), expected)


def _ensemble(infer: Infer) -> None:
    # Alone as the template's users ask it, then as a full batch.
    for texts in (TEXTS[:1], TEXTS):
        sent = {"text_input": text_array(*texts).reshape(-1, 1)}
        labels = text_array(*(expected_label(text) for text in texts)).reshape(-1, 1)
        _expect("ensemble_model", infer("ensemble_model", sent), {"label": labels})


def add_http_json(client: Client) -> None:
    """FP32 and INT64 through ONNX, as JSON."""
    _add_fp32(client.infer_json)


def add_http_binary(client: Client) -> None:
    """FP32 and INT64 through ONNX, as bytes over HTTP."""
    _add_fp32(client.infer_binary)


def add_grpc(client: Client) -> None:
    """FP32 and INT64 through ONNX, over gRPC."""
    _add_fp32(client.infer_grpc)


def add_shapes(client: Client) -> None:
    """Other sizes than before, in both directions."""
    for width in (1, 1000, 7):
        _add_fp32(client.infer_binary, width)
        _add_fp32(client.infer_http, width)


def no_config_http(client: Client) -> None:
    """A model whose configuration the server made up itself."""
    _no_config(client.infer_json)


def no_config_grpc(client: Client) -> None:
    """The same over gRPC."""
    _no_config(client.infer_grpc)


def every_type_binary(client: Client) -> None:
    """All types through ONNX, as bytes over HTTP."""
    _every_type(client.infer_binary)


def every_type_grpc(client: Client) -> None:
    """All types through ONNX, over gRPC."""
    _every_type(client.infer_grpc)


def echo_http_json(client: Client) -> None:
    """Texts and floats through Python, as JSON."""
    expect_echo(client.infer_json)


def echo_http_binary(client: Client) -> None:
    """Texts and floats through Python, as bytes over HTTP."""
    expect_echo(client.infer_binary)


def echo_grpc(client: Client) -> None:
    """Texts and floats through Python, over gRPC."""
    expect_echo(client.infer_grpc)


def python_types_binary(client: Client) -> None:
    """All types through Python and numpy, as bytes over HTTP."""
    _every_type(client.infer_binary, "every_type_python")


def python_types_grpc(client: Client) -> None:
    """All types through Python and numpy, over gRPC."""
    _every_type(client.infer_grpc, "every_type_python")


def ensemble_http(client: Client) -> None:
    """Python, ONNX and Python in a row, as JSON."""
    _ensemble(client.infer_json)


def ensemble_grpc(client: Client) -> None:
    """Python, ONNX and Python in a row, over gRPC."""
    _ensemble(client.infer_grpc)


CHECKS = [
    Check("onnx-answers-json", add_http_json, "add_fp32"),
    Check("onnx-answers-binary", add_http_binary, "add_fp32"),
    Check("onnx-answers-grpc", add_grpc, "add_fp32"),
    Check("onnx-dynamic-shapes", add_shapes, "add_fp32"),
    Check("onnx-no-config-json", no_config_http, "no_config"),
    Check("onnx-no-config-grpc", no_config_grpc, "no_config"),
    Check("onnx-types-binary", every_type_binary, "every_type"),
    Check("onnx-types-grpc", every_type_grpc, "every_type"),
    Check("python-answers-json", echo_http_json, "echo"),
    Check("python-answers-binary", echo_http_binary, "echo"),
    Check("python-answers-grpc", echo_grpc, "echo"),
    Check("python-types-binary", python_types_binary, "every_type_python"),
    Check("python-types-grpc", python_types_grpc, "every_type_python"),
    Check("ensemble-json", ensemble_http, "ensemble_model"),
    Check("ensemble-grpc", ensemble_grpc, "ensemble_model"),
]
