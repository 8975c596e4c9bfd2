"""Tensors that travel through shared memory, not through the connection.

The region is made inside the container, in its own /dev/shm, by the image's shell: nothing of this
machine is shared with it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np
import tritonclient.grpc as triton_grpc

if TYPE_CHECKING:
    from assembler.verify.serving.client import Client

_KEY = "assembler-verify"


def shared_memory(client: Client, execute: Callable[..., bytes]) -> None:
    """An input is read from a region and an output written behind it. execute: runs a command
    inside the container and returns what it prints.
    """
    a = np.arange(1, 9, dtype=np.float32).reshape(2, 4)
    sent = a.tobytes()
    octal = "".join(f"\\{byte:03o}" for byte in sent + bytes(len(sent)))
    execute("/bin/sh", "-c", f"printf '{octal}' > /dev/shm/{_KEY}")
    client.grpc.register_system_shared_memory(_KEY, f"/{_KEY}", 2 * len(sent))
    try:
        tensor = triton_grpc.InferInput("A", list(a.shape), "FP32")
        tensor.set_shared_memory(_KEY, len(sent))
        output = triton_grpc.InferRequestedOutput("B")
        output.set_shared_memory(_KEY, len(sent), offset=len(sent))
        client.grpc.infer("no_config", [tensor], outputs=[output], client_timeout=60)
        data = execute("/bin/cat", f"/dev/shm/{_KEY}")[len(sent) :]
    finally:
        client.grpc.unregister_system_shared_memory(_KEY)
        execute("/bin/rm", f"/dev/shm/{_KEY}")
    got = np.frombuffer(data, np.float32).reshape(a.shape)
    right = a * a - np.float32(3)
    assert np.array_equal(got, right), f"no_config: B is {got.tolist()}, expected {right.tolist()}"
