"""Checks that send tensors and compare what comes back with values computed here."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np
from tritonclient.utils import triton_to_np_dtype

from tests.serving.configs import TYPES
from tests.serving.models import expected_label

if TYPE_CHECKING:
    from tests.serving.client import Client
    from tests.serving.wire import Arrays

    Infer = Callable[[str, Arrays], Arrays]

TEXTS = ("помогите мне", "Почему не работает заказ?", "it does not work at all", "straße 🙂")


def _text_array(*rows: str) -> np.ndarray:
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


def _add_fp32(infer: Infer) -> None:
    # Every element differs, so a repeated or shifted one shows; the integers do not fit a double.
    x = np.arange(1, 7, dtype=np.float32).reshape(2, 3) / 4
    k = np.array([[1, -2], [2**60 + 1, -(2**60) - 3]], dtype=np.int64)
    expected = {"Y": x * np.float32(2) + np.float32(1), "Z": k * 3 - 1}
    _expect("add_fp32", infer("add_fp32", {"X": x, "K": k}), expected)


def _no_config(infer: Infer) -> None:
    a = np.arange(8, dtype=np.float32).reshape(2, 4)
    _expect("no_config", infer("no_config", {"A": a}), {"B": a * a - np.float32(3)})


def _every_type(infer: Infer) -> None:
    sent: Arrays = {}
    for kind in TYPES:
        if kind == "STRING":
            sent[kind] = _text_array(*TEXTS).reshape(2, 2)
        else:
            # From one end of the type to the other, so a lost sign or half of the bytes shows.
            least, most = _ends(np.dtype(triton_to_np_dtype(kind)))
            sent[kind] = np.stack([least, most, most, least]).reshape(2, 2)
    answer = infer("every_type", {f"IN_{kind}": array for kind, array in sent.items()})
    _expect("every_type", answer, {f"OUT_{kind}": array for kind, array in sent.items()})


def _ends(kind: np.dtype[Any]) -> tuple[Any, Any]:
    if kind == np.bool_:
        return np.False_, np.True_
    info: Any = np.finfo(kind) if kind.kind == "f" else np.iinfo(kind)
    return kind.type(info.min), kind.type(info.max)


def _echo(infer: Infer) -> None:
    values = np.array([1, 2.5, -3, 4, 5, 6.25], dtype=np.float32)
    expected = {
        "TEXT_UPPER": _text_array(*(text.upper() for text in TEXTS)),
        "VALUES_DOUBLED": values * 2,
        "SUM": np.array([15.75], dtype=np.float32),
    }
    _expect("echo", infer("echo", {"TEXT": _text_array(*TEXTS), "VALUES": values}), expected)


def _ensemble(infer: Infer) -> None:
    # Alone as the template's users ask it, then as a full batch.
    for texts in (TEXTS[:1], TEXTS):
        sent = {"text_input": _text_array(*texts).reshape(-1, 1)}
        labels = _text_array(*(expected_label(text) for text in texts)).reshape(-1, 1)
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
    _echo(client.infer_json)


def echo_http_binary(client: Client) -> None:
    """Texts and floats through Python, as bytes over HTTP."""
    _echo(client.infer_binary)


def echo_grpc(client: Client) -> None:
    """Texts and floats through Python, over gRPC."""
    _echo(client.infer_grpc)


def ensemble_http(client: Client) -> None:
    """Python, ONNX and Python in a row, as JSON."""
    _ensemble(client.infer_json)


def ensemble_grpc(client: Client) -> None:
    """Python, ONNX and Python in a row, over gRPC."""
    _ensemble(client.infer_grpc)


CHECKS: list[tuple[str, Callable[[Client], None]]] = [
    ("infer add_fp32, HTTP JSON", add_http_json),
    ("infer add_fp32, HTTP binary", add_http_binary),
    ("infer add_fp32, gRPC", add_grpc),
    ("infer no_config, HTTP JSON", no_config_http),
    ("infer no_config, gRPC", no_config_grpc),
    ("infer every_type, HTTP binary", every_type_binary),
    ("infer every_type, gRPC", every_type_grpc),
    ("infer echo, HTTP JSON", echo_http_json),
    ("infer echo, HTTP binary", echo_http_binary),
    ("infer echo, gRPC", echo_grpc),
    ("infer ensemble, HTTP JSON", ensemble_http),
    ("infer ensemble, gRPC", ensemble_grpc),
]
