"""Python model: the first step of the ensemble, from texts to token numbers."""

from __future__ import annotations  # for Python 3.8

import zlib
from typing import Any

import numpy as np
import triton_python_backend_utils as pb_utils

LENGTH = 16
VOCABULARY = 1000


class TritonPythonModel:
    """A tokenizer without a vocabulary file: the checksum of a word is its number."""

    def execute(self, requests: list[Any]) -> list[Any]:
        """Answer each request on its own; a request holds a batch of texts."""
        return [self._answer(request) for request in requests]

    @staticmethod
    def _answer(request: Any) -> Any:
        texts = pb_utils.get_input_tensor_by_name(request, "text_input").as_numpy().reshape(-1)
        ids = np.zeros((len(texts), LENGTH), dtype=np.int64)
        mask = np.zeros_like(ids)
        for row, text in enumerate(texts):
            words = text.decode("utf-8").lower().split()[:LENGTH]
            for column, word in enumerate(words):
                # 0 is padding, so words count from 1.
                ids[row, column] = zlib.crc32(word.encode("utf-8")) % VOCABULARY + 1
                mask[row, column] = 1
        outputs = [
            pb_utils.Tensor("input_ids", ids),
            pb_utils.Tensor("attention_mask", mask),
            pb_utils.Tensor("token_type_ids", np.zeros_like(ids)),
        ]
        return pb_utils.InferenceResponse(output_tensors=outputs)
