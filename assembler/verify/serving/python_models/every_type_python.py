"""Python model: each input as it came, by way of numpy."""

from __future__ import annotations  # for Python 3.8

from typing import Any

import numpy as np
import triton_python_backend_utils as pb_utils


class TritonPythonModel:
    """A copy of each tensor, so that conversions in both directions take part."""

    def execute(self, requests: list[Any]) -> list[Any]:
        """Answer each request on its own."""
        return [self._answer(request) for request in requests]

    @staticmethod
    def _answer(request: Any) -> Any:
        outputs = []
        for tensor in request.inputs():
            name = tensor.name().replace("IN_", "OUT_")
            outputs.append(pb_utils.Tensor(name, np.array(tensor.as_numpy())))
        return pb_utils.InferenceResponse(output_tensors=outputs)
