"""A Triton model repository whose right answers can be computed without Triton."""

from __future__ import annotations

import shutil
import zlib
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from assembler.verify.serving.configs import (
    LABELS,
    TOKENS,
    TYPES,
    configurations,
    models_for,
)

# What ONNX Runtime 1.18 reads for certain; newer onnx releases default to higher ones.
IR_VERSION = 9
OPSET = 17

_SOURCES = Path(__file__).parent / "python_models"
_LENGTH = 16
_VOCABULARY = 1000
_FEATURES = 4


def _save(
    path: Path,
    nodes: list[onnx.NodeProto],
    inputs: list[onnx.ValueInfoProto],
    outputs: list[onnx.ValueInfoProto],
    constants: dict[str, np.ndarray],
) -> None:
    tensors = [numpy_helper.from_array(value, name) for name, value in constants.items()]
    graph = helper.make_graph(nodes, path.parent.parent.name, inputs, outputs, tensors)
    opsets = [helper.make_opsetid("", OPSET)]
    model = helper.make_model(graph, opset_imports=opsets, ir_version=IR_VERSION)
    onnx.checker.check_model(model, full_check=True)
    onnx.save(model, str(path))


def _value(name: str, kind: int, *shape: str | int) -> onnx.ValueInfoProto:
    return helper.make_tensor_value_info(name, kind, shape)


def _add_fp32(path: Path) -> None:
    """Y = X * 2 + 1 in floats and Z = K * 3 - 1 in integers."""
    nodes = [
        helper.make_node("Mul", ["X", "two"], ["twice"]),
        helper.make_node("Add", ["twice", "one"], ["Y"]),
        helper.make_node("Mul", ["K", "three"], ["thrice"]),
        helper.make_node("Sub", ["thrice", "unit"], ["Z"]),
    ]
    floats, integers = TensorProto.FLOAT, TensorProto.INT64
    constants: dict[str, np.ndarray] = {
        "two": np.array(2, np.float32),
        "one": np.array(1, np.float32),
        "three": np.array(3, np.int64),
        "unit": np.array(1, np.int64),
    }
    inputs = [_value("X", floats, "batch", "x"), _value("K", integers, "batch", "k")]
    outputs = [_value("Y", floats, "batch", "x"), _value("Z", integers, "batch", "k")]
    _save(path, nodes, inputs, outputs, constants)


def _no_config(path: Path) -> None:
    """B = A * A - 3; the server has to find out names and types by itself."""
    nodes = [
        helper.make_node("Mul", ["A", "A"], ["square"]),
        helper.make_node("Sub", ["square", "three"], ["B"]),
    ]
    inputs = [_value("A", TensorProto.FLOAT, "batch", 4)]
    outputs = [_value("B", TensorProto.FLOAT, "batch", 4)]
    _save(path, nodes, inputs, outputs, {"three": np.array(3, np.float32)})


def _every_type(path: Path) -> None:
    """OUT = IN for each type."""
    named = {"FP16": "FLOAT16", "FP32": "FLOAT", "FP64": "DOUBLE"}
    kinds = {kind: TensorProto.DataType.Value(named.get(kind, kind)) for kind in TYPES}
    nodes = [helper.make_node("Identity", [f"IN_{kind}"], [f"OUT_{kind}"]) for kind in TYPES]
    inputs = [_value(f"IN_{kind}", number, "batch", "x") for kind, number in kinds.items()]
    outputs = [_value(f"OUT_{kind}", number, "batch", "x") for kind, number in kinds.items()]
    _save(path, nodes, inputs, outputs, {})


def _feature(token: int, feature: int) -> int:
    """A small whole number, so that sums of floats are exact in any order."""
    return (token * (7 + 5 * feature) + 13 * feature) % 17 - 8


def _weight(feature: int, label: int) -> int:
    return (feature * 3 + label * 5 + feature * label) % 7 - 3


def _model_onnx(path: Path) -> None:
    """A classifier in small: embed, mask, sum over the words, project to logits."""
    table = [[_feature(t, f) for f in range(_FEATURES)] for t in range(_VOCABULARY + 1)]
    weights = [[_weight(f, label) for label in range(len(LABELS))] for f in range(_FEATURES)]
    constants: dict[str, np.ndarray] = {
        "table": np.array(table, np.float32),
        "weights": np.array(weights, np.float32),
        "words": np.array([1], np.int64),
        "last": np.array([2], np.int64),
    }
    nodes = [
        # Token types are all zero; adding them keeps the third input in use.
        helper.make_node("Add", ["input_ids", "token_type_ids"], ["tokens"]),
        helper.make_node("Gather", ["table", "tokens"], ["embedded"]),
        helper.make_node("Cast", ["attention_mask"], ["mask"], to=TensorProto.FLOAT),
        helper.make_node("Unsqueeze", ["mask", "last"], ["mask3"]),
        helper.make_node("Mul", ["embedded", "mask3"], ["masked"]),
        helper.make_node("ReduceSum", ["masked", "words"], ["pooled"], keepdims=0),
        helper.make_node("MatMul", ["pooled", "weights"], ["logits"]),
    ]
    inputs = [_value(name, TensorProto.INT64, "batch", "length") for name, _, _ in TOKENS]
    _save(
        path, nodes, inputs, [_value("logits", TensorProto.FLOAT, "batch", len(LABELS))], constants
    )


def expected_label(text: str) -> str:
    """The label that the ensemble must give, without numpy, ONNX or Triton."""
    tokens = [zlib.crc32(w.encode()) % _VOCABULARY + 1 for w in text.lower().split()[:_LENGTH]]
    pooled = [sum(_feature(token, f) for token in tokens) for f in range(_FEATURES)]
    logits = [sum(p * _weight(f, i) for f, p in enumerate(pooled)) for i in range(len(LABELS))]
    return LABELS[logits.index(max(logits))]


def write_repository(
    folder: Path, backends: Iterable[str] = ("onnxruntime", "python"), *, but: Iterable[str] = ()
) -> None:
    """Write the models for these backends into ``folder``, one directory each, as the server
    expects them; `but`: leave these out.
    """
    writers = {
        "add_fp32": _add_fp32,
        "every_type": _every_type,
        "model_onnx": _model_onnx,
        "no_config": _no_config,
    }
    texts = configurations()
    for model in sorted(set(models_for(backends)) - set(but)):
        # An ensemble needs a version directory too, though it stays empty.
        version = folder / model / "1"
        version.mkdir(parents=True, exist_ok=True)
        if model in texts:
            (folder / model / "config.pbtxt").write_text(texts[model], encoding="utf-8")
        if model in writers:
            writers[model](version / "model.onnx")
        elif (source := _SOURCES / f"{model}.py").exists():
            shutil.copyfile(source, version / "model.py")
