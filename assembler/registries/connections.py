"""HTTP to registries: proxies and certificates as the environment has them, nothing else.

One `requests` session without cookies, netrc, transparent decompression or redirects; and
plain words for everything that a network can do.
"""

from __future__ import annotations

import contextlib
import errno
import http.client
import http.cookiejar
import os
import socket
import ssl
import threading
import weakref
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import requests
import urllib3
from requests import utils
from requests.adapters import HTTPAdapter
from urllib3.connection import HTTPConnection, HTTPSConnection
from urllib3.connectionpool import HTTPConnectionPool, HTTPSConnectionPool
from urllib3.util.ssl_ import create_urllib3_context

from assembler import __version__
from assembler.errors import SourceError
from assembler.reference import is_loopback

CONNECT_TIMEOUT = 10.0  # seconds
READ_TIMEOUT = 30.0  # seconds without a byte
CA_VARIABLES = ("REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", "SSL_CERT_FILE")

# What reading a response's body can raise; requests translates only some of it.
BROKEN = (
    requests.RequestException,
    urllib3.exceptions.HTTPError,
    http.client.HTTPException,
    OSError,
    ValueError,  # a file that was closed by `break_off` in another thread
)


class RegistryError(SourceError):
    """A registry did not give what was asked for.

    status: of HTTP; 0 where no answer came. temporary: trying again may help.
    retry_after: seconds that the registry asks to wait.
    """

    def __init__(
        self,
        message: str,
        *,
        status: int = 0,
        temporary: bool = False,
        retry_after: float | None = None,
    ) -> None:
        super().__init__(message)
        self.status, self.temporary, self.retry_after = status, temporary, retry_after

    @property
    def passes_on(self) -> bool:
        """Whether a mirror that fails so is passed over, and the next place is asked."""
        return self.status in (0, 404) or self.status >= 500


def host_of(url: str) -> str:
    """Return host and port of a URL; its path and query may hold secrets and never get out."""
    return urlsplit(url).netloc.rpartition("@")[2]


def origin_of(url: str) -> tuple[str, str, int]:
    """Return scheme, host and port of a URL, comparable with those of another."""
    parts = urlsplit(url)
    try:
        port = parts.port
    except ValueError:
        port = -1
    return parts.scheme, parts.hostname or "", port or {"http": 80}.get(parts.scheme, 443)


def ca_bundle() -> str | bool:
    """Return the CA bundle that the environment names, else True (that of `requests`)."""
    for variable in CA_VARIABLES:
        path = os.environ.get(variable)
        if path:
            if not Path(path).exists():
                raise RegistryError(f"{variable} names {path}, which does not exist")
            return path
    return True


def proxies(url: str) -> dict[str, str]:
    """Return the proxies for `url` from the environment; this machine is never behind one."""
    # So has it net/http (ProxyFromEnvironment), and with it docker and skopeo.
    return {} if is_loopback(host_of(url)) else utils.get_environ_proxies(url)


class Connections:
    """Sends requests; any thread may use it. Timeouts are in seconds.

    ca: a file of certificates to trust beside those of the environment.
    """

    def __init__(
        self, connect: float = CONNECT_TIMEOUT, read: float = READ_TIMEOUT, ca: Path | None = None
    ) -> None:
        self._timeouts = (connect, read)
        self._lock = threading.Lock()
        self._sockets: weakref.WeakSet[socket.socket] = weakref.WeakSet()
        self._answered: set[str] = set()
        self._session = requests.Session()
        # With trust_env, ~/.netrc would replace our Authorization (requests/sessions.py).
        self._session.trust_env = False
        # Harbor answers cookies with a CSRF check (oras-py, provider.py).
        self._session.cookies.set_policy(http.cookiejar.DefaultCookiePolicy(allowed_domains=[]))
        self._session.headers = requests.structures.CaseInsensitiveDict(
            {"User-Agent": f"triton-assembler/{__version__}", "Accept-Encoding": "identity"}
        )
        for prefix in ("http://", "https://"):
            self._session.mount(prefix, _Adapter(self._remember, ca))

    def request(
        self,
        method: str,
        url: str,
        headers: Mapping[str, str],
        data: Any = None,
        read: float | None = None,
    ) -> requests.Response:
        """Send one request and return the response, its body unread and redirects not followed.

        data: a body as requests takes it. read: seconds without a byte of the answer, where the
        usual ones will not do.
        Raises RegistryError when no answer comes. Where the host cannot even be reached, it is
        temporary only after an earlier answer: a misspelt or stopped registry is told of at once.
        """
        connect, usual = self._timeouts
        if data is not None:
            # urllib3 gives sending the time for connecting, and a registry's busy disk takes more.
            connect = max(connect, usual)
        try:
            response = self._session.request(
                method,
                url,
                headers=dict(headers),
                data=data,
                stream=True,
                allow_redirects=False,
                timeout=(connect, read or usual),
                proxies=proxies(url),
                verify=ca_bundle(),
            )
        except BROKEN as error:
            raise self.explain(error, url) from None
        with self._lock:
            self._answered.add(host_of(url))
        return response

    def explain(self, error: Exception, url: str, what: str = "") -> RegistryError:
        """Return what `error` means for somebody who wants to read (`what`) from `url`."""
        host, causes = host_of(url), list(_causes(error))
        through = ""
        if isinstance(error, requests.exceptions.ProxyError):
            proxy = host_of(utils.select_proxy(url, proxies(url)) or "")
            through = f"{host} cannot be reached through the proxy: "
        text, again = _reason(proxy if through else host, causes, *self._timeouts)
        with self._lock:
            known = host in self._answered
        text = (f"{what}: " if what else "") + through + text
        return RegistryError(text, temporary=again == ALWAYS or (again == KNOWN and known))

    def break_off(self) -> None:
        """Break every connection, so that no thread goes on waiting for one.

        Whoever was reading and was not cancelled just connects again.
        """
        with self._lock:
            for each in list(self._sockets):
                with contextlib.suppress(OSError):
                    # Not SSLSocket's own: that one is for the thread that reads.
                    socket.socket.shutdown(each, socket.SHUT_RDWR)

    def close(self) -> None:
        """Close what lies idle."""
        self._session.close()

    def _remember(self, sock: object) -> None:
        if isinstance(sock, socket.socket):
            with self._lock:
                self._sockets.add(sock)


class _Adapter(HTTPAdapter):
    """An adapter that tells of each socket it opens."""

    def __init__(self, remember: Any, ca: Path | None) -> None:
        class Plain(HTTPConnection):
            def connect(self) -> None:
                super().connect()
                remember(self.sock)

        class Secure(HTTPSConnection):
            def connect(self) -> None:
                super().connect()
                remember(self.sock)

        class PlainPool(HTTPConnectionPool):
            ConnectionCls = Plain

        class SecurePool(HTTPSConnectionPool):
            ConnectionCls = Secure

        self._pools = {"http": PlainPool, "https": SecurePool}
        self._tls: dict[str, Any] = {}
        if ca is not None:
            # What `verify` names is loaded into the same context, beside this.
            self._tls["ssl_context"] = create_urllib3_context()
            self._tls["ssl_context"].load_verify_locations(ca)
        super().__init__(pool_maxsize=16)

    def init_poolmanager(self, *args: Any, **options: Any) -> None:
        super().init_poolmanager(*args, **(options | self._tls))
        self.poolmanager.pool_classes_by_scheme = self._pools

    def proxy_manager_for(self, *args: Any, **options: Any) -> Any:
        manager = super().proxy_manager_for(*args, **(options | self._tls))
        # A SOCKS manager has pools of its own, which must stay.
        if type(manager) is urllib3.ProxyManager:
            manager.pool_classes_by_scheme = self._pools
        return manager


def _causes(error: BaseException) -> Iterator[BaseException]:
    """Yield `error` and all that is wrapped in it, outermost first."""
    queue, seen = [error], {id(error)}
    for each in queue:
        yield each
        inner = (each.__cause__, each.__context__, getattr(each, "reason", None), *each.args)
        for cause in inner:
            if isinstance(cause, BaseException) and id(cause) not in seen:
                seen.add(id(cause))
                queue.append(cause)


def _is_unreachable(cause: BaseException) -> bool:
    # There is no way to the host; urllib3 calls that a connection that took too long.
    return isinstance(cause, OSError) and cause.errno in (errno.ENETUNREACH, errno.EHOSTUNREACH)


# When trying again may help: never, if the host has answered before, always.
NEVER, KNOWN, ALWAYS = range(3)


def _reason(host: str, causes: list[BaseException], connect: float, read: float) -> tuple[str, int]:
    """Return one line for what happened, and when trying again may help.

    Texts of requests' own exceptions hold the URL with its query, and are never shown.
    """

    def first(*kinds: type[BaseException]) -> Any:
        return next((each for each in causes if isinstance(each, kinds)), None)

    if isinstance(causes[0], RegistryError):
        return str(causes[0]), NEVER
    if error := first(ssl.SSLCertVerificationError):
        why = error.verify_message or "unknown reason"
        remedy = f"put its authority's certificate into a file and name that in {CA_VARIABLES[-1]}"
        return f"{host} has a TLS certificate that is not trusted ({why}): {remedy}", NEVER
    if error := first(ssl.SSLError):
        if "WRONG_VERSION_NUMBER" in str(error) or "HTTP_REQUEST" in str(error):
            return f"{host} does not speak TLS: list it as insecure if plain HTTP will do", NEVER
        return f"the TLS connection to {host} failed ({error.reason or 'it broke off'})", KNOWN
    if first(socket.gaierror):
        return f"{host}: no such host; is the name right, and is there a network?", KNOWN
    if first(ConnectionRefusedError):
        return f"{host} refuses connections: is a registry running there?", KNOWN
    if any(map(_is_unreachable, causes)):
        return f"{host} cannot be reached from here: is there a network?", KNOWN
    if first(requests.ConnectTimeout, urllib3.exceptions.ConnectTimeoutError):
        return f"{host} did not answer within {connect:g} s", KNOWN
    if first(requests.ReadTimeout, urllib3.exceptions.ReadTimeoutError, TimeoutError):
        return f"{host} is too slow: nothing came for {read:g} s", ALWAYS
    if first(requests.exceptions.InvalidSchema):
        return f"{host}: the proxy needs PySocks, which is not installed", NEVER
    if first(requests.exceptions.InvalidURL, UnicodeError):
        return f"{host} is no valid address", NEVER
    if first(ConnectionError, http.client.HTTPException, urllib3.exceptions.ProtocolError):
        return f"{host} broke the connection", ALWAYS
    system = [
        e for e in causes if isinstance(e, OSError) and not isinstance(e, requests.RequestException)
    ]
    why = (system[-1].strerror or str(system[-1])) if system else type(causes[-1]).__name__
    return f"{host}: {why}", KNOWN
