"""The requests whose responses are compared bit for bit: as they go over the wire."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from assembler.verify.serving import wire
from assembler.verify.serving.checks_infer import TEXTS, every_type_arrays, text_array
from assembler.verify.serving.configs import BACKENDS, models_for

Body = tuple[str, bytes, dict[str, str]]
"""Path below /v2, bytes, headers."""


def bodies(backends: Iterable[str]) -> dict[str, Body]:
    """Return requests by name, for the models that these backends serve."""
    values = np.array([1, 2.5, -3, 4, 1e-30, 3.4e38], dtype=np.float32)
    noise = np.random.default_rng(7).standard_normal((4, 97)).astype(np.float32)
    sent: dict[str, wire.Arrays] = {
        "add_fp32": {"X": noise, "K": np.arange(8, dtype=np.int64).reshape(4, 2) * 2**55},
        "no_config": {"A": noise[:, :4].copy()},
        "every_type": {f"IN_{k}": a for k, a in every_type_arrays().items()},
        "echo": {"TEXT": text_array(*TEXTS), "VALUES": values},
        "every_type_python": {f"IN_{k}": a for k, a in every_type_arrays().items()},
        "calls_echo": {"TEXT": text_array(*TEXTS), "VALUES": values},
        "ensemble_model": {"text_input": text_array(*TEXTS).reshape(-1, 1)},
    }
    assert sent.keys() <= BACKENDS.keys()
    found: dict[str, Body] = {}
    for model in models_for(backends):
        if model in sent:
            path = f"models/{model}/infer"
            found[f"{model}-binary"] = (path, *wire.binary_request(sent[model]))
            if not model.startswith("every_type"):  # FP16 has no form in JSON
                found[f"{model}-json"] = (path, *wire.json_request(sent[model]))
    return found
