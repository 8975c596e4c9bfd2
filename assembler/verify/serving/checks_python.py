"""What the python backend does beside answering one request by one response."""

from __future__ import annotations

import queue
from typing import TYPE_CHECKING, Any

import numpy as np
import tritonclient.grpc as triton_grpc

from assembler.verify.serving import checks_infer
from assembler.verify.serving.check import Check

if TYPE_CHECKING:
    from assembler.verify.serving.client import Client

_SECONDS = 30


def _number(value: int, *shape: int) -> Any:
    tensor = triton_grpc.InferInput("N", list(shape), "INT32")
    return tensor.set_data_from_numpy(np.full(shape, value, np.int32))


def decoupled(client: Client) -> None:
    """One request, as many responses as it asks for, in order, over a gRPC stream."""
    answers: queue.Queue[Any] = queue.Queue()
    client.grpc.start_stream(lambda result, error: answers.put(error or result))
    try:
        client.grpc.async_stream_infer("countdown", [_number(4, 1)])
        got = []
        for _ in range(4):
            answer = answers.get(timeout=_SECONDS)
            if isinstance(answer, Exception):
                raise answer
            got.append(int(answer.as_numpy("M")[0]))
    except queue.Empty:
        raise AssertionError(f"countdown: {len(got)} responses of 4 came") from None
    finally:
        client.grpc.stop_stream()
    assert got == [4, 3, 2, 1], f"countdown: responses {got}, expected 4, 3, 2, 1"


def sequence(client: Client) -> None:
    """Two sequences in turns, each with a state of its own."""
    sums = {1001: 0, 1002: 0}
    for step, value in enumerate((5, -3, 40)):
        for number in sums:
            sums[number] += value * (number - 1000)
            answer = client.grpc.infer(
                "running_sum",
                [_number(value * (number - 1000), 1, 1)],
                sequence_id=number,
                sequence_start=step == 0,
                sequence_end=step == 2,
                client_timeout=_SECONDS,
            ).as_numpy("M")
            assert answer.tolist() == [[sums[number]]], (
                f"running_sum: step {step + 1} of sequence {number} is {answer.tolist()}, "
                f"expected {sums[number]}"
            )


def bls(client: Client) -> None:
    """A model that asks another one inside the server."""
    checks_infer.expect_echo(client.infer_json, "calls_echo")
    checks_infer.expect_echo(client.infer_grpc, "calls_echo")


CHECKS = [
    Check("python-decoupled", decoupled, "countdown"),
    Check("python-sequence", sequence, "running_sum"),
    Check("python-bls", bls, "calls_echo"),
]
