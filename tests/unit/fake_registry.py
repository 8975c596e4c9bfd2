"""A registry in this process, over real HTTP, that can be told to misbehave.

It follows the distribution specification where nothing is scripted, answers open ranges with
416 (as go-containerregistry's does), and remembers every request.
"""

from __future__ import annotations

import base64
import gzip
import json
import re
import ssl
import threading
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit

from assembler import oci
from tests.unit import tiny


@dataclass
class Request:
    """A request as it came in; header names in lower case."""

    method: str
    path: str
    query: dict[str, list[str]]
    headers: dict[str, str]
    form: dict[str, list[str]]
    body: bytes = b""


@dataclass
class Reply:
    """What will be answered. declared: Content-Length, where it is not the body's. Then:

    cut: bytes after which the connection breaks. pause: seconds before the body is sent.
    """

    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)
    body: bytes = b""
    declared: int | None = None
    chunked: bool = False
    cut: int | None = None
    pause: float = 0.0


Change = Callable[[Request, Reply], Reply]


@dataclass
class Fault:
    """Changes the replies to requests whose path matches, so many times, after so many others."""

    path: str
    change: Change
    times: int = 1
    after: int = 0
    method: str = ""


# -- faults --------------------------------------------------------------------------------


def status(code: int, body: bytes = b"", **headers: str) -> Change:
    """Answer with this status; header names are written with underscores."""
    named = {key.replace("_", "-"): value for key, value in headers.items()}
    return lambda _request, _reply: Reply(code, named, body)


def error(code: int, name: str, message: str, **headers: str) -> Change:
    """Answer with an error as the distribution specification has them."""
    document = {"errors": [{"code": name, "message": message}]}
    return status(code, json.dumps(document).encode(), **headers)


def cut(count: int) -> Change:
    """Break the connection after `count` bytes of the body."""
    return lambda _, reply: Reply(reply.status, reply.headers, reply.body, cut=count)


def truncated(count: int) -> Change:
    """Send `count` bytes, and say that this is all there is."""
    return lambda _, reply: Reply(reply.status, reply.headers, reply.body[:count])


def chunked(body: Callable[[bytes], bytes] = bytes, **headers: str) -> Change:
    """Send the body, changed by `body`, without saying its length beforehand."""
    named = {key.replace("_", "-"): value for key, value in headers.items()}
    return lambda _, reply: Reply(
        reply.status, reply.headers | named, body(reply.body), chunked=True
    )


def changed(body: Callable[[bytes], bytes], **headers: str) -> Change:
    """Send another body, with further headers."""
    named = {key.replace("_", "-"): value for key, value in headers.items()}
    return lambda _, reply: Reply(reply.status, reply.headers | named, body(reply.body))


def silent(seconds: float) -> Change:
    """Send the head at once, and the body after a while."""
    return lambda _, reply: Reply(reply.status, reply.headers, reply.body, pause=seconds)


def redirect(to: str) -> Change:
    """Send the client to `to` (a URL up to the host), path kept, with a signature for a query."""
    return lambda request, _: Reply(
        307, {"Location": f"{to}{request.path}?X-Amz-Signature=SECRET-SIGNATURE"}
    )


# -- logins --------------------------------------------------------------------------------


class Basic:
    """A registry that wants a user name and password with each request."""

    def __init__(self, user: str, password: str) -> None:
        self.expected = "Basic " + base64.b64encode(f"{user}:{password}".encode()).decode()

    def __call__(self, request: Request, _registry: FakeRegistry) -> Reply | None:
        if request.headers.get("authorization") == self.expected:
            return None
        return Reply(401, {"WWW-Authenticate": 'Basic realm="it, is \\"mine\\""'})


class Bearer:
    """A registry that wants tokens.

    As nvcr.io does, it names no service, and tells somebody whose token has ended of another
    realm, where strangers get nothing. lifetime: seconds, None to leave them out of the answer.
    """

    def __init__(
        self,
        *,
        lifetime: float | None = 600,
        says: float | str | None = "lifetime",
        field_name: str = "token",
        scope: bool = True,
        users: dict[str, str] | None = None,
        refresh: str = "",
        oauth: bool = True,
        realm: str = "",
    ) -> None:
        self.lifetime, self.says = lifetime, lifetime if says == "lifetime" else says
        self.field_name, self.scope, self.users = field_name, scope, users
        self.refresh, self.oauth, self.realm = refresh, oauth, realm
        self.clock: Callable[[], float] = time.monotonic
        self.tokens: dict[str, tuple[str, float]] = {}

    def __call__(self, request: Request, registry: FakeRegistry) -> Reply | None:
        if request.path == "/token":
            return self._token(request)
        if request.path == "/for-customers-only":
            return Reply(401)
        if not request.path.startswith("/v2/"):
            return None
        token = request.headers.get("authorization", "").removeprefix("Bearer ")
        repository = re.split("/(?:manifests|blobs|tags)/", request.path)[0].removeprefix("/v2/")
        scope, end = self.tokens.get(token, ("", 0.0))
        if f"repository:{repository}:pull" in scope.split() and self.clock() < end:
            return None
        realm = self.realm or f"{registry.url}/{'for-customers-only' if token else 'token'}"
        challenge = f'Bearer realm="{realm}"'
        if self.scope:
            challenge += f',scope="repository:{repository}:pull"'
        return Reply(401, {"WWW-Authenticate": challenge})

    def _token(self, request: Request) -> Reply:
        scope = " ".join(request.form.get("scope") or request.query.get("scope") or [])
        if request.method == "POST":
            if not self.oauth:
                return Reply(404)
            if request.form.get("refresh_token") != [self.refresh]:
                return Reply(401)
        elif self.users is not None:
            given = request.headers.get("authorization", "").removeprefix("Basic ")
            user, _, password = base64.b64decode(given).decode().partition(":")
            if not user or self.users.get(user) != password:
                return Reply(401)
        token = f"TOKEN-{len(self.tokens)}"
        self.tokens[token] = (scope, self.clock() + (self.lifetime or 60))
        document: dict[str, Any] = {self.field_name: token}
        if self.says is not None:
            document["expires_in"] = self.says
        return Reply(200, {}, json.dumps(document).encode())


# -- the registry --------------------------------------------------------------------------


class FakeRegistry:
    """Repositories in memory. `requests` has what came, `faults` what is still to go wrong."""

    def __init__(self, host: str = "127.0.0.1", tls: ssl.SSLContext | None = None) -> None:
        self.blobs: dict[str, bytes] = {}
        self.manifests: dict[str, tuple[str, bytes]] = {}
        self.faults: list[Fault] = []
        self.requests: list[Request] = []
        self.login: Callable[[Request, FakeRegistry], Reply | None] | None = None
        self.ranges = True
        self._lock = threading.Lock()
        registry = self

        class Handler(_Handler):
            owner = registry

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        if tls:
            self._server.socket = tls.wrap_socket(
                self._server.socket, server_side=True, do_handshake_on_connect=False
            )
        # A broken connection is what half of the tests are about; no traceback for it.
        self._server.handle_error = lambda *_: None  # type: ignore[method-assign]
        self.host = f"{host}:{self._server.server_address[1]}"
        self.url = f"{'https' if tls else 'http'}://{self.host}"
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.01,))
        self._thread.start()

    def close(self) -> None:
        """Stop answering."""
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()

    def add(
        self,
        name: str,
        tars: Iterable[bytes],
        *,
        how: str = "gzip",
        docker: bool = False,
        **config: Any,
    ) -> oci.Manifest:
        """Put an image under `repository:tag`; docker: with Docker's media types."""
        plain = list(tars)
        packed = [tiny.pack(each, how) for each in plain]
        config_bytes = tiny.config(plain, **config)
        for blob in (*packed, config_bytes):
            self.blobs[oci.sha256(blob)] = blob
        kind = "application/vnd.docker.image.rootfs.diff.tar.gzip" if docker else oci.OCI_LAYER
        media_type = oci.DOCKER_MANIFEST if docker else oci.OCI_MANIFEST
        document = {
            "schemaVersion": 2,
            "mediaType": media_type,
            "config": oci.Descriptor(
                oci.OCI_CONFIG, oci.sha256(config_bytes), len(config_bytes)
            ).json(),
            "layers": [oci.Descriptor(kind, oci.sha256(b), len(b)).json() for b in packed],
        }
        raw = json.dumps(document, indent=3).encode()  # not canonical: the bytes are what counts
        self.put(name, media_type, raw)
        return oci.Manifest.parse(raw, name)

    def put(self, name: str, media_type: str, raw: bytes) -> str:
        """Put a manifest under `repository:tag` and under its digest, which is returned."""
        repository = name.partition(":")[0]
        self.manifests[name] = self.manifests[f"{repository}@{oci.sha256(raw)}"] = media_type, raw
        return oci.sha256(raw)

    def index(self, name: str, entries: list[tuple[bytes, str, dict[str, Any]]]) -> str:
        """Put an index under `repository:tag`: of manifests (or indexes), media types, more."""
        documents = [
            oci.Descriptor(kind, oci.sha256(raw), len(raw)).json() | more
            for raw, kind, more in entries
        ]
        document = {"schemaVersion": 2, "mediaType": oci.OCI_INDEX, "manifests": documents}
        return self.put(name, oci.OCI_INDEX, json.dumps(document).encode())

    def fault(
        self, path: str, change: Change, times: int = 1, after: int = 0, method: str = ""
    ) -> None:
        """Let the next `times` requests for paths that match go wrong, `after` so many well.

        method: those of this one alone.
        """
        self.faults.append(Fault(path, change, times, after, method))

    def seen(self, path: str = "") -> list[Request]:
        """The requests for paths that match, in order."""
        return [each for each in self.requests if re.search(path, each.path)]

    def answer(self, request: Request) -> Reply:
        """What a request is answered with, faults included."""
        with self._lock:
            self.requests.append(request)
            change = self._next_fault(request)
            refused = self.login(request, self) if self.login else None
        # A write that goes wrong has no effect.
        lost = change is not None and request.method in ("POST", "PUT", "PATCH")
        reply = refused or (Reply() if lost else self._content(request))
        return change(request, reply) if change and reply.status != 401 else reply

    def _next_fault(self, request: Request) -> Change | None:
        for fault in self.faults:
            ours = fault.method in ("", request.method)
            if ours and fault.times and re.search(fault.path, request.path):
                if fault.after:
                    fault.after -= 1
                    return None
                fault.times -= 1
                return fault.change
        return None

    def _content(self, request: Request) -> Reply:
        if match := re.fullmatch("/v2/(.+)/manifests/(.+)", request.path):
            separator = "@" if ":" in match[2] else ":"
            found = self.manifests.get(f"{match[1]}{separator}{match[2]}")
            if found:
                return Reply(200, {"Content-Type": found[0]}, found[1])
        elif match := re.fullmatch("/v2/(.+)/blobs/(.+)", request.path):
            if match[2] in self.blobs:
                return self._blob(self.blobs[match[2]], request.headers.get("range"))
        elif match := re.fullmatch("/v2/(.+)/tags/list", request.path):
            prefix = f"{match[1]}:"
            tags = [name[len(prefix) :] for name in self.manifests if name.startswith(prefix)]
            if tags:
                return Reply(200, {}, json.dumps({"name": match[1], "tags": tags}).encode())
        body = {"errors": [{"code": "NOT_FOUND", "message": "unknown to the registry"}]}
        return Reply(404, {}, json.dumps(body).encode())

    def _blob(self, data: bytes, wanted: str | None) -> Reply:
        if wanted is None or not self.ranges:
            return Reply(200, {}, data)
        match = re.fullmatch(r"bytes=(\d+)-(\d+)", wanted)
        if not match or int(match[2]) >= len(data):
            return Reply(416, {"Content-Range": f"bytes */{len(data)}"})
        start, end = int(match[1]), int(match[2])
        part = {"Content-Range": f"bytes {start}-{end}/{len(data)}"}
        return Reply(206, part, data[start : end + 1])


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    owner: FakeRegistry

    def do_GET(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        kind = self.headers.get("Content-Type", "")
        form = parse_qs(body.decode()) if "x-www-form-urlencoded" in kind else {}
        parts = urlsplit(self.path)
        request = Request(
            self.command,
            parts.path,
            parse_qs(parts.query),
            {key.lower(): value for key, value in self.headers.items()},
            form,
            body,
        )
        reply = self.owner.answer(request)
        self.send_response(reply.status)
        for key, value in reply.headers.items():
            self.send_header(key, value)
        if reply.chunked:
            self.send_header("Transfer-Encoding", "chunked")
        else:
            self.send_header("Content-Length", str(reply.declared or len(reply.body)))
        self.end_headers()
        if self.command == "HEAD":
            return
        if reply.pause:
            self.wfile.flush()
            time.sleep(reply.pause)
        if reply.cut is not None:
            self.wfile.write(reply.body[: reply.cut])
            self.close_connection = True
        elif reply.chunked:
            for start in range(0, len(reply.body), 1000):
                piece = reply.body[start : start + 1000]
                self.wfile.write(b"%x\r\n%s\r\n" % (len(piece), piece))
            self.wfile.write(b"0\r\n\r\n")
        else:
            self.wfile.write(reply.body)

    do_POST = do_HEAD = do_PUT = do_PATCH = do_DELETE = do_CONNECT = do_GET

    def log_message(self, *_: object) -> None:
        """Print nothing."""


def gzipped(data: bytes) -> bytes:
    """What a proxy that compresses makes of a body."""
    return gzip.compress(data, mtime=0)
