"""A python-based backend that serves ONNX models: what stands for libtriton_onnxruntime.so.

No package ships that library. Triton takes backends/onnxruntime/model.py in its place where the
folder has no libtriton_onnxruntime.so, for every model that names this backend or none: then the
server guesses it from the file name model.onnx. What a model without a full configuration gets
follows upstream's rules (onnxruntime_backend:r24.05:src/onnxruntime.cc, AutoCompleteConfig).

Runs in Triton's stub: nothing of this repository can be imported.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent / "packages"))

import numpy as np
import onnxruntime
import triton_python_backend_utils as pb_utils

# The server's default for --backend-config=default-max-batch-size, which it tells no stub.
MAX_BATCH = 4
TYPES = {
    "tensor(float)": "TYPE_FP32",
    "tensor(double)": "TYPE_FP64",
    "tensor(float16)": "TYPE_FP16",
    "tensor(int8)": "TYPE_INT8",
    "tensor(int16)": "TYPE_INT16",
    "tensor(int32)": "TYPE_INT32",
    "tensor(int64)": "TYPE_INT64",
    "tensor(uint8)": "TYPE_UINT8",
    "tensor(uint16)": "TYPE_UINT16",
    "tensor(uint32)": "TYPE_UINT32",
    "tensor(uint64)": "TYPE_UINT64",
    "tensor(bool)": "TYPE_BOOL",
    "tensor(string)": "TYPE_STRING",
}


def _session(folder: str, config: dict[str, Any]) -> Any:
    options = onnxruntime.SessionOptions()
    for setting in ("intra_op", "inter_op"):
        given = config.get("parameters", {}).get(f"{setting}_thread_count")
        setattr(options, f"{setting}_num_threads", int(given["string_value"]) if given else 1)
    path = Path(folder) / (config.get("default_model_filename") or "model.onnx")
    return onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])


def _described(tensor: Any, batched: bool) -> dict[str, Any]:
    """Return a tensor as a configuration has it, where names and None stand for any size."""
    shape = tensor.shape[1:] if batched else tensor.shape
    dims = [size if isinstance(size, int) else -1 for size in shape]
    found = {"name": tensor.name, "data_type": TYPES[tensor.type], "dims": dims or [1]}
    if batched and not dims:
        found["reshape"] = {"shape": []}
    return found


def _complete(config: dict[str, Any], session: Any) -> None:
    """Add to a configuration what it leaves open."""
    inputs, outputs = session.get_inputs(), session.get_outputs()
    batches = all(t.shape and not isinstance(t.shape[0], int) for t in [*inputs, *outputs])
    if batches:
        config["max_batch_size"] = config["max_batch_size"] or MAX_BATCH
        if config["max_batch_size"] > 1 and "sequence_batching" not in config:
            config.setdefault("dynamic_batching", {})
    elif config["max_batch_size"]:
        raise pb_utils.TritonModelException(
            f"autofill failed for model '{config['name']}': model does not support batching while "
            "non-zero max_batch_size is specified"
        )
    for key, tensors in (("input", inputs), ("output", outputs)):
        if not config[key]:
            config[key] += [_described(t, config["max_batch_size"] > 0) for t in tensors]


def _check(config: dict[str, Any], key: str, tensors: list[Any]) -> None:
    """Raise where a configuration names tensors or types that the model has not."""
    types = {tensor.name: TYPES[tensor.type] for tensor in tensors}
    start = f"unable to load model '{config['name']}', configuration expects"
    if key == "input" and len(config[key]) != len(types):
        raise pb_utils.TritonModelException(
            f"{start} {len(config[key])} inputs, model provides {len(types)}"
        )
    for tensor in config[key]:
        name, asked = tensor["name"], tensor["data_type"]
        if name not in types:
            raise pb_utils.TritonModelException(
                f"unexpected inference {key} '{name}', allowed {key}s are: {', '.join(types)}"
            )
        if asked != types[name]:
            raise pb_utils.TritonModelException(
                f"{start} datatype {asked} for {key} '{name}', model provides {types[name]}"
            )


class TritonPythonModel:
    """One instance of an ONNX model."""

    @staticmethod
    def auto_complete_config(config: Any) -> Any:
        """Fill in a configuration that lacks inputs or outputs."""
        known = config.as_dict()  # not a copy: what is put in is there
        if not (known["input"] and known["output"]):
            _complete(known, _session(pb_utils.get_model_dir(), known))
        return config

    def initialize(self, args: dict[str, str]) -> None:
        """Load the model."""
        config = json.loads(args["model_config"])
        if args["model_instance_kind"] == "GPU":
            raise pb_utils.TritonModelException("this stand-in serves on CPU only")
        self.session = _session(pb_utils.get_model_dir(), config)
        _check(config, "input", self.session.get_inputs())
        _check(config, "output", self.session.get_outputs())

    def execute(self, requests: list[Any]) -> list[Any]:
        """Answer each request on its own."""
        return [self._answer(request) for request in requests]

    def _answer(self, request: Any) -> Any:
        try:
            feeds = {tensor.name(): _given(tensor.as_numpy()) for tensor in request.inputs()}
            names = list(request.requested_output_names())
            found = self.session.run(names, feeds)
        except Exception as error:  # whatever it is, it is this request's alone
            return pb_utils.InferenceResponse(
                error=pb_utils.TritonError(f"onnx runtime error {error}")
            )
        tensors = [
            pb_utils.Tensor(name, _wire(value)) for name, value in zip(names, found, strict=True)
        ]
        return pb_utils.InferenceResponse(output_tensors=tensors)


def _given(array: Any) -> Any:
    """Return an input as ONNX Runtime takes it: texts as str."""
    if array.dtype != np.object_:
        return array
    return np.array([raw.decode() for raw in array.reshape(-1)], np.object_).reshape(array.shape)


def _wire(array: Any) -> Any:
    """Return an output as Triton takes it: texts as bytes, a scalar with the one size it has."""
    if array.dtype != np.object_:
        return np.atleast_1d(array)
    encoded = np.array([text.encode() for text in array.reshape(-1)], np.object_)
    return encoded.reshape(array.shape or (1,))
