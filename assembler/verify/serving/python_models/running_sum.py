"""Python model: the sum of all numbers of a sequence so far."""

from __future__ import annotations  # for Python 3.8

from typing import Any

import numpy as np
import triton_python_backend_utils as pb_utils


class TritonPythonModel:
    """Keeps a sum for each sequence, by its correlation id."""

    def initialize(self, _args: dict[str, str]) -> None:
        """Begin with no sequence."""
        self.sums: dict[int, int] = {}

    def execute(self, requests: list[Any]) -> list[Any]:
        """Answer each request on its own."""
        return [self._answer(request) for request in requests]

    def _answer(self, request: Any) -> Any:
        number = pb_utils.get_input_tensor_by_name(request, "N").as_numpy()
        start = pb_utils.get_input_tensor_by_name(request, "START").as_numpy()
        key = request.correlation_id()
        before = 0 if start.reshape(-1)[0] else self.sums[key]
        self.sums[key] = before + int(number.reshape(-1)[0])
        tensor = pb_utils.Tensor("M", np.full(number.shape, self.sums[key], np.int32))
        return pb_utils.InferenceResponse(output_tensors=[tensor])
