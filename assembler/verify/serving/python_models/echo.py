"""Python model: texts in upper case, numbers times two, and the sum of the numbers."""

from __future__ import annotations  # for Python 3.8

from typing import Any

import numpy as np
import triton_python_backend_utils as pb_utils


class TritonPythonModel:
    """Touches every conversion that a mismatched numpy is known to break."""

    def execute(self, requests: list[Any]) -> list[Any]:
        """Answer each request on its own."""
        return [self._answer(request) for request in requests]

    @staticmethod
    def _answer(request: Any) -> Any:
        texts = pb_utils.get_input_tensor_by_name(request, "TEXT").as_numpy()
        values = pb_utils.get_input_tensor_by_name(request, "VALUES").as_numpy()
        upper = [text.decode("utf-8").upper().encode("utf-8") for text in texts.reshape(-1)]
        outputs = [
            pb_utils.Tensor("TEXT_UPPER", np.array(upper, dtype=np.object_).reshape(texts.shape)),
            pb_utils.Tensor("VALUES_DOUBLED", (values * 2).astype(np.float32)),
            pb_utils.Tensor("SUM", np.array([values.sum()], dtype=np.float32)),
        ]
        return pb_utils.InferenceResponse(output_tensors=outputs)
