"""Python model: from a number N as many responses, N down to 1."""

from __future__ import annotations  # for Python 3.8

from typing import Any

import numpy as np
import triton_python_backend_utils as pb_utils


class TritonPythonModel:
    """Answers through the response sender, as decoupled models do."""

    def execute(self, requests: list[Any]) -> None:
        """Send every response, then say that these were all."""
        for request in requests:
            sender = request.get_response_sender()
            count = int(pb_utils.get_input_tensor_by_name(request, "N").as_numpy()[0])
            for number in range(count, 0, -1):
                tensor = pb_utils.Tensor("M", np.array([number], np.int32))
                sender.send(pb_utils.InferenceResponse(output_tensors=[tensor]))
            sender.send(flags=pb_utils.TRITONSERVER_RESPONSE_COMPLETE_FINAL)
