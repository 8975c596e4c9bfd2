"""A client of one running server, and the list of checks made through it."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

import requests
import tritonclient.grpc as triton_grpc

from assembler.verify.serving import wire
from assembler.verify.serving.wire import Arrays

HTTP, GRPC, METRICS = 8000, 8001, 8002


class Parts(NamedTuple):
    """An answer, a refusal too. outputs: its bytes by output, and the rest under ""."""

    status: int
    outputs: dict[str, bytes]


class Client:
    """HTTP, gRPC and metrics of one server; an answer that is not a success raises, unless it is
    asked for as it is (`status`, `parts`).
    """

    def __init__(self, host: str, models: Iterable[str] = ()) -> None:
        """models: those that the server was given; checks that ask others leave them out."""
        self.host, self.models = host, tuple(models)
        self.base = f"http://{host}:{HTTP}"
        self.metrics_address = f"http://{host}:{METRICS}/metrics"
        self.session = requests.Session()
        # A proxy from the environment must not come between us and a container.
        self.session.trust_env = False
        # Triton spends its whole exit timeout on an idle connection, and then exits with status 1.
        self.session.headers["Connection"] = "close"
        self.grpc = triton_grpc.InferenceServerClient(
            f"{host}:{GRPC}", channel_args=[("grpc.enable_http_proxy", 0)]
        )

    def close(self) -> None:
        """Give the connections back."""
        self.session.close()
        self.grpc.close()

    def status(self, path: str, timeout: float = 30) -> int:
        """The HTTP status of a GET, whatever it is."""
        return self.session.get(self._address(path), timeout=timeout).status_code

    def get(self, path: str) -> Any:
        """The JSON answer to a GET."""
        return self._json(self.session.get(self._address(path), timeout=30), path)

    def post(self, path: str, body: Mapping[str, Any] | None = None) -> Any:
        """The JSON answer to a POST; an empty answer is None."""
        answer = self.session.post(
            self._address(path),
            data=wire.encode(body or {}),
            headers={"Content-Type": "application/json"},
            timeout=60,
        )
        return self._json(answer, path)

    def raw(
        self, path: str, body: bytes | Mapping[str, Any], headers: Mapping[str, str] | None = None
    ) -> bytes:
        """The bytes of the answer to a POST."""
        data = body if isinstance(body, bytes) else wire.encode(body)
        answer = self.session.post(self._address(path), data=data, headers=headers, timeout=60)
        assert answer.status_code == 200, f"/v2/{path}: HTTP {answer.status_code}: {answer.text}"
        return answer.content

    def parts(
        self, path: str, body: bytes | Mapping[str, Any], headers: Mapping[str, str] | None = None
    ) -> Parts:
        """The answer to a POST, taken apart, for servers give the outputs in any order where a
        request names none; what is said instead of outputs is left whole.
        """
        data = body if isinstance(body, bytes) else wire.encode(body)
        answer = self.session.post(self._address(path), data=data, headers=headers, timeout=60)
        if answer.status_code != 200:
            return Parts(answer.status_code, {"": answer.content})
        outputs = wire.apart(answer.content, answer.headers.get(wire.HEADER_LENGTH))
        return Parts(answer.status_code, outputs)

    def metrics(self) -> str:
        """The metrics page in Prometheus' text format."""
        answer = self.session.get(self.metrics_address, timeout=30)
        assert answer.status_code == 200, f"metrics: HTTP {answer.status_code}"
        return answer.text

    def infer_json(self, model: str, arrays: Arrays) -> Arrays:
        """Infer over HTTP with the tensors as JSON."""
        answer = json.loads(self.raw(f"models/{model}/infer", *wire.json_request(arrays)))
        return {output["name"]: wire.from_json(output) for output in answer["outputs"]}

    def infer_binary(self, model: str, arrays: Arrays) -> Arrays:
        """Infer over HTTP with the tensors as bytes behind the JSON header, both ways."""
        body, headers = wire.binary_request(arrays)
        answer = self.session.post(
            self._address(f"models/{model}/infer"), data=body, headers=headers, timeout=60
        )
        assert answer.status_code == 200, f"{model}: HTTP {answer.status_code}: {answer.text}"
        length = answer.headers.get(wire.HEADER_LENGTH)
        assert length, f"{model}: asked for binary tensors, got {answer.text[:200]}"
        rest, outputs = answer.content[int(length) :], {}
        for output in json.loads(answer.content[: int(length)])["outputs"]:
            size = output["parameters"]["binary_data_size"]
            outputs[output["name"]] = wire.from_bytes(rest[:size], output)
            rest = rest[size:]
        return outputs

    def infer_http(self, model: str, arrays: Arrays) -> Arrays:
        """Infer over HTTP with Triton's own client, which sends and asks for bytes."""
        import tritonclient.http as triton_http

        inputs = []
        for name, array in arrays.items():
            tensor = triton_http.InferInput(name, list(array.shape), wire.datatype(array))
            inputs.append(tensor.set_data_from_numpy(wire.wire(array)))
        # As above: no connection may stay open.
        client = triton_http.InferenceServerClient(f"{self.host}:{HTTP}", network_timeout=60)
        try:
            result = client.infer(model, inputs, headers={"Connection": "close"})
        finally:
            client.close()
        outputs = result.get_response()["outputs"]
        return {o["name"]: wire.texts(result.as_numpy(o["name"])) for o in outputs}

    def infer_grpc(self, model: str, arrays: Arrays) -> Arrays:
        """Infer over gRPC."""
        inputs = []
        for name, array in arrays.items():
            tensor = triton_grpc.InferInput(name, list(array.shape), wire.datatype(array))
            inputs.append(tensor.set_data_from_numpy(wire.wire(array)))
        result = self.grpc.infer(model, inputs, client_timeout=60)
        return {o.name: wire.texts(result.as_numpy(o.name)) for o in result.get_response().outputs}

    def _address(self, path: str) -> str:
        # The server's own metadata is at /v2; with a slash behind it the server knows nothing.
        return f"{self.base}/v2/{path}".rstrip("/")

    @staticmethod
    def _json(answer: requests.Response, path: str) -> Any:
        assert answer.status_code == 200, f"/v2/{path}: HTTP {answer.status_code}: {answer.text}"
        return answer.json() if answer.content else None
