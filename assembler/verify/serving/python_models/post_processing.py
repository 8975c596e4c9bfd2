"""Python model: the last step of the ensemble, from logits to the name of the best label."""

from __future__ import annotations  # for Python 3.8

import json
from typing import Any

import numpy as np
import triton_python_backend_utils as pb_utils


class TritonPythonModel:
    """Reads its labels from the model's configuration, as deployed models do."""

    def initialize(self, args: dict[str, str]) -> None:
        """Take the labels out of ``parameters`` in config.pbtxt."""
        config = json.loads(args["model_config"])
        self.labels = config["parameters"]["labels"]["string_value"].split(",")

    def execute(self, requests: list[Any]) -> list[Any]:
        """Answer each request on its own; a request holds a batch of rows."""
        return [self._answer(request) for request in requests]

    def _answer(self, request: Any) -> Any:
        logits = pb_utils.get_input_tensor_by_name(request, "logits").as_numpy()
        names = [[self.labels[best].encode("utf-8")] for best in logits.argmax(axis=1)]
        labels = pb_utils.Tensor("label", np.array(names, dtype=np.object_))
        return pb_utils.InferenceResponse(output_tensors=[labels])
