"""Tensors as they travel: numpy arrays to and from the forms of the inference protocol."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import numpy as np
import tritonclient.utils as triton_utils

Array = np.ndarray[Any, Any]
Arrays = dict[str, Array]
"""Tensors by name; texts are arrays of ``str`` objects."""

HEADER_LENGTH = "Inference-Header-Content-Length"


def wire(array: Array) -> Array:
    """The array as the wire formats want it: texts as UTF-8 bytes."""
    if array.dtype != np.object_:
        return array
    encoded = [text.encode("utf-8") for text in array.reshape(-1)]
    return np.array(encoded, dtype=np.object_).reshape(array.shape)


def texts(array: Array) -> Array:
    """The opposite of ``wire``: bytes become ``str``."""
    if array.dtype != np.object_:
        return array
    return np.array([raw.decode() for raw in array.reshape(-1)], np.object_).reshape(array.shape)


def datatype(array: Array) -> str:
    """Triton's name of the array's type."""
    return str(triton_utils.np_to_triton_dtype(array.dtype))


def header(name: str, array: Array) -> dict[str, Any]:
    """What JSON says about a tensor besides its data."""
    return {"name": name, "shape": list(array.shape), "datatype": datatype(array)}


def to_bytes(array: Array) -> bytes:
    """The tensor as it follows the JSON header in a binary request."""
    if array.dtype == np.object_:
        return bytes(triton_utils.serialize_byte_tensor(wire(array)).item())
    return array.tobytes()


def from_bytes(data: bytes, output: Mapping[str, Any]) -> Array:
    """The tensor whose data followed a JSON header; ``output`` is its entry there."""
    if output["datatype"] == "BYTES":
        array = texts(triton_utils.deserialize_bytes_tensor(data))
    else:
        array = np.frombuffer(data, triton_utils.triton_to_np_dtype(output["datatype"]))
    return array.reshape(output["shape"])


def from_json(output: Mapping[str, Any]) -> Array:
    """The tensor that an entry of a JSON answer carries itself."""
    kind = triton_utils.triton_to_np_dtype(output["datatype"])
    return np.array(output["data"], kind).reshape(output["shape"])


def encode(document: Mapping[str, Any]) -> bytes:
    """JSON with texts in plain UTF-8, as curl sends them, not as escapes."""
    return json.dumps(document, ensure_ascii=False).encode("utf-8")


def json_request(arrays: Arrays) -> tuple[bytes, dict[str, str]]:
    """Body and headers of a request whose tensors are JSON."""
    inputs = [{**header(n, a), "data": a.reshape(-1).tolist()} for n, a in arrays.items()]
    return encode({"inputs": inputs}), {"Content-Type": "application/json"}


def binary_request(arrays: Arrays) -> tuple[bytes, dict[str, str]]:
    """Body and headers of a request whose tensors follow the JSON as bytes, both ways."""
    parts = {name: to_bytes(array) for name, array in arrays.items()}
    inputs = [
        {**header(n, a), "parameters": {"binary_data_size": len(parts[n])}}
        for n, a in arrays.items()
    ]
    head = encode({"inputs": inputs, "parameters": {"binary_data_output": True}})
    headers = {"Content-Type": "application/octet-stream", HEADER_LENGTH: str(len(head))}
    return head + b"".join(parts.values()), headers


def apart(answer: bytes, header_length: str | None) -> dict[str, bytes]:
    """An answer by output: what the JSON says of it, digits as they came, then its bytes."""
    length = int(header_length) if header_length else len(answer)
    document, rest = json.loads(answer[:length], parse_float=str), answer[length:]
    found = {}
    for output in document.pop("outputs", []):
        size = output.get("parameters", {}).get("binary_data_size", 0)
        found[str(output["name"])] = json.dumps(output, sort_keys=True).encode() + rest[:size]
        rest = rest[size:]
    return {**found, "": json.dumps(document, sort_keys=True).encode() + rest}
