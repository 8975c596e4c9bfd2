"""Python model: lets the model `echo` answer (business logic scripting)."""

from __future__ import annotations  # for Python 3.8

from typing import Any

import triton_python_backend_utils as pb_utils


class TritonPythonModel:
    """Hands inputs on to another model of the same server, and its outputs back."""

    def execute(self, requests: list[Any]) -> list[Any]:
        """Answer each request on its own."""
        return [self._answer(request) for request in requests]

    @staticmethod
    def _answer(request: Any) -> Any:
        answer = pb_utils.InferenceRequest(
            model_name="echo",
            requested_output_names=["TEXT_UPPER", "VALUES_DOUBLED", "SUM"],
            inputs=request.inputs(),
        ).exec()
        if answer.has_error():
            raise pb_utils.TritonModelException(answer.error().message())
        return pb_utils.InferenceResponse(output_tensors=answer.output_tensors())
