"""A Docker Engine made of scripted answers, for what the Engine at hand cannot be made to do.

It speaks HTTP on a port of this machine; DOCKER_HOST points there.
"""

from __future__ import annotations

import json
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


@dataclass
class FakeEngine:
    """images: inspect answers by every name. save: the stream of any image, cut off after
    `cut` bytes. containerd: whether it has that store. load_answer: what it says to a load.
    """

    images: dict[str, dict[str, Any]] = field(default_factory=dict)
    save: bytes = b""
    cut: int | None = None
    containerd: bool = False
    load_answer: bytes = b""
    hang_up_after: int | None = None
    loaded: list[bytes] = field(default_factory=list)
    calls: list[str] = field(default_factory=list)
    appears: dict[str, dict[str, Any]] = field(default_factory=dict)


@contextmanager
def serving(engine: FakeEngine) -> Iterator[str]:
    """Serve it; gives the value for DOCKER_HOST."""
    handler = type("Bound", (_Handler,), {"engine": engine})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    thread = threading.Thread(target=server.serve_forever, args=(0.02,))
    thread.start()
    try:
        yield f"tcp://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    engine: FakeEngine

    def log_message(self, *args: object) -> None:
        """Say nothing."""

    def _answer(self, status: int, document: Any) -> None:
        data = document if isinstance(document, bytes) else json.dumps(document).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def do_GET(self) -> None:
        path = re.sub(r"^/v1\.\d+", "", self.path)
        if path == "/version":
            return self._answer(200, {"ApiVersion": "1.44", "MinAPIVersion": "1.24"})
        if path == "/info":
            kind = "io.containerd.snapshotter.v1" if self.engine.containerd else "x"
            return self._answer(200, {"DriverStatus": [["driver-type", kind]]})
        if path.startswith("/images/json"):
            return self._answer(200, list(self.engine.images.values()))
        if match := re.fullmatch(r"/images/(.+)/json", path):
            found = self.engine.images.get(match[1])
            return self._answer(200, found) if found else self._answer(404, {"message": "none"})
        return self._stream()

    def _stream(self) -> None:
        self.send_response(200)
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        data = self.engine.save[: self.engine.cut]
        for start in range(0, len(data), 1000):
            piece = data[start : start + 1000]
            self.wfile.write(b"%x\r\n%s\r\n" % (len(piece), piece))
        if self.engine.cut is None:
            self.wfile.write(b"0\r\n\r\n")
        self.close_connection = True

    def do_POST(self) -> None:
        path = re.sub(r"^/v1\.\d+", "", self.path)
        self.engine.calls.append(f"POST {path}")
        if not path.startswith("/images/load"):
            return self._answer(201, {})
        data = b""
        while size := int(self.rfile.readline(), 16):
            data += self.rfile.read(size)
            self.rfile.readline()
            after = self.engine.hang_up_after
            if after is not None and len(data) >= after:
                self.close_connection = True
                return None
        self.rfile.readline()
        self.engine.loaded.append(data)
        self.engine.images |= self.engine.appears
        return self._answer(200, self.engine.load_answer)

    def do_DELETE(self) -> None:
        self.engine.calls.append("DELETE " + re.sub(r"^/v1\.\d+", "", self.path))
        self._answer(200, [])
