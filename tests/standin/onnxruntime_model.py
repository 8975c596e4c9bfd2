"""A python-based backend that serves ONNX models: what stands for libtriton_onnxruntime.so.

No package ships that library, but Triton serves a model that names backend `onnxruntime` with
backends/onnxruntime/model.py where there is no libtriton_onnxruntime.so.
"""

import json
import os
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent / "packages"))

import numpy as np
import onnxruntime
import triton_python_backend_utils as pb_utils

TYPES = {
    "tensor(float)": "FP32",
    "tensor(double)": "FP64",
    "tensor(float16)": "FP16",
    "tensor(int8)": "INT8",
    "tensor(int16)": "INT16",
    "tensor(int32)": "INT32",
    "tensor(int64)": "INT64",
    "tensor(uint8)": "UINT8",
    "tensor(uint16)": "UINT16",
    "tensor(uint32)": "UINT32",
    "tensor(uint64)": "UINT64",
    "tensor(bool)": "BOOL",
    "tensor(string)": "STRING",
}


def _session(path):
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    return onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])


def _repositories():
    """Model repositories of the server: the stub is not told them when it auto-completes."""
    server = Path(f"/proc/{os.getppid()}")
    words = (server / "cmdline").read_text().split("\0")
    for word, following in zip(words, [*words[1:], ""], strict=True):
        name, equals, value = word.partition("=")
        if name in ("--model-repository", "--model-store"):
            yield (server / "cwd").resolve() / (value if equals else following)


class TritonPythonModel:
    @staticmethod
    def auto_complete_config(config):
        name = config.as_dict()["name"]
        for repository in _repositories():
            for path in sorted((repository / name).glob("[0-9]*/model.onnx")):
                return TritonPythonModel._complete(config, _session(path))
        return config

    @staticmethod
    def _complete(config, session):
        known = config.as_dict()
        if not known["input"] and not known["output"]:
            config.set_max_batch_size(0)
            for kind, add in (
                (session.get_inputs(), config.add_input),
                (session.get_outputs(), config.add_output),
            ):
                for tensor in kind:
                    dims = [d if isinstance(d, int) else -1 for d in tensor.shape]
                    add(
                        {
                            "name": tensor.name,
                            "data_type": f"TYPE_{TYPES[tensor.type]}",
                            "dims": dims,
                        }
                    )
        return config

    def initialize(self, args):
        config = json.loads(args["model_config"])
        if args["model_instance_kind"] == "GPU":
            raise pb_utils.TritonModelException("this stand-in serves on CPU only")
        name = config.get("default_model_filename") or "model.onnx"
        path = Path(args["model_repository"]) / args["model_version"] / name
        self.session = _session(path)
        self.outputs = [output["name"] for output in config["output"]]

    def execute(self, requests):
        responses = []
        for request in requests:
            try:
                feeds = {}
                for tensor in request.inputs():
                    value = tensor.as_numpy()
                    if value.dtype == np.object_:
                        flat = [
                            v.decode() if isinstance(v, bytes) else v for v in value.reshape(-1)
                        ]
                        value = np.array(flat, dtype=object).reshape(value.shape)
                    feeds[tensor.name()] = value
                asked = request.requested_output_names() or self.outputs
                found = self.session.run(list(asked), feeds)
                tensors = [
                    pb_utils.Tensor(n, np.asarray(v)) for n, v in zip(asked, found, strict=True)
                ]
                responses.append(pb_utils.InferenceResponse(output_tensors=tensors))
            except Exception as error:
                responses.append(
                    pb_utils.InferenceResponse(
                        error=pb_utils.TritonError(f"onnx runtime error: {error}")
                    )
                )
        return responses
