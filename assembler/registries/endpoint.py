"""One registry: requests with its login, redirects to its storage, its refusals in words."""

from __future__ import annotations

import email.utils
import json
import re
import time
from collections.abc import Callable, Collection, Iterator, Mapping
from typing import Any, Protocol
from urllib.parse import urljoin, urlsplit

import requests

from assembler.reference import is_loopback
from assembler.registries import refusals
from assembler.registries.connections import BROKEN, Connections, RegistryError, host_of, origin_of
from assembler.registries.credentials import Credentials, login_command
from assembler.registries.tokens import Authorizer, Scopes

MAX_REDIRECTS = 8
MAX_ERROR = 64 << 10  # bytes of an error's or a token's body (ggcr, transport)
REDIRECTS = (301, 302, 303, 307, 308)
READING = ("GET", "HEAD")
# Where a registry's name is not its host (docker/cli, distribution's ReferenceInfo).
HOSTS = {"docker.io": "registry-1.docker.io"}


class Body(Protocol):
    """What is sent as a stream of a length that is known beforehand."""

    def __len__(self) -> int: ...

    def __iter__(self) -> Iterator[bytes]: ...

    def read(self, size: int, /) -> bytes: ...


# Bytes, or what opens a stream anew for each time that it is sent.
Data = bytes | Callable[[], Body]


def read_at_most(response: requests.Response, limit: int) -> bytes:
    """Return the body, at most `limit` + 1 bytes of it, as it came; raises what `BROKEN` lists."""
    pieces: list[bytes] = []
    left = limit + 1
    while left > 0 and (data := response.raw.read(left, decode_content=False)):
        pieces.append(data)
        left -= len(data)
    return b"".join(pieces)


class Endpoint:
    """Speaks to one registry. plain: whether a host (port and all) may be spoken to over HTTP,
    which sends logins in the clear.

    find: gives the credentials for a registry. clock: seconds, for the life of tokens.
    """

    def __init__(
        self,
        registry: str,
        connections: Connections,
        *,
        plain: Callable[[str], bool],
        find: Callable[[str], Credentials | None],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.registry = registry
        host = HOSTS.get(registry, registry)
        self.base = f"{'http' if plain(registry) else 'https'}://{host}"
        self._connections = connections
        self._authorizer = Authorizer(registry, self.base, plain, find, self._fetch, clock)

    def send(
        self,
        method: str,
        path: str,
        scopes: Scopes,
        what: str,
        *,
        headers: Mapping[str, str] | None = None,
        data: Data | None = None,
        accept: Collection[int] = (200,),
        patience: float | None = None,
    ) -> requests.Response:
        """Send a request, logging in when asked to, and return the response, body unread.

        path: below the registry, or a URL that it gave (an upload's Location). `what` names
        the thing in errors. accept: statuses that are no errors. patience: seconds without a
        byte, where an answer takes longer than usual. Raises RegistryError.
        """
        url = urljoin(self.base, path)
        headers = headers or {}
        # Another host that the registry names gets no login of ours.
        login = self._authorizer.header(scopes) if self._is_ours(url) else None
        response = self._follow(method, url, headers, login, data, patience)
        if response.status_code == 401 and self._is_ours(response.url) and login:
            # nvcr.io's challenge to an ended token names a realm that gives strangers nothing;
            # the one it has for newcomers does (NVIDIA/nvidia-container-toolkit #1945).
            response.close()
            self._authorizer.forget(scopes, login)
            login = self._authorizer.header(scopes)  # another thread may have been faster
            response = self._follow(method, url, headers, login, data, patience)
        if response.status_code == 401 and self._is_ours(response.url):
            challenge = response.headers.get("WWW-Authenticate", "")
            response.close()
            login = self._authorizer.answer(challenge, scopes, what)
            response = self._follow(method, url, headers, login, data, patience)
            if response.status_code == 401 and self._is_ours(response.url):
                response.close()
                self._authorizer.forget(scopes, login)
                raise self._authorizer.refusal(what, scopes)
        if response.status_code in accept:
            return response
        with response:
            raise self._failure(response, what)

    def _follow(
        self,
        method: str,
        url: str,
        headers: Mapping[str, str],
        authorization: str | None,
        data: Data | Mapping[str, str] | None = None,
        patience: float | None = None,
    ) -> requests.Response:
        """Send a request and follow redirects.

        Only the first host gets `authorization`, or a form (which has credentials).
        """
        origin = origin_of(url)
        for _ in range(MAX_REDIRECTS):
            sent = dict(headers)
            # Storage answers 400 or 403 to a token that is not its own (opa #6728).
            if authorization and origin_of(url) == origin:
                sent["Authorization"] = authorization
            body = data() if callable(data) else data
            response = self._connections.request(method, url, sent, body, patience)
            location = response.headers.get("Location")
            if response.status_code not in REDIRECTS or location is None:
                return response
            response.close()
            target = urljoin(url, location)
            scheme, host = urlsplit(target)[:2]
            if scheme not in ("http", "https") or not host:
                raise RegistryError(f"{host_of(url)} redirects to something that is no web address")
            if scheme == "http" and url.startswith("https:") and not is_loopback(host_of(target)):
                raise RegistryError(f"{host_of(url)} redirects to plain HTTP at {host_of(target)}")
            if isinstance(data, Mapping) and origin_of(target) != origin:
                raise RegistryError(
                    f"{host_of(url)} redirects the login to {host_of(target)}: credentials are not "
                    "sent there"
                )
            url = target
        raise RegistryError(f"{self.registry} redirects without end", status=508)

    def _fetch(
        self, method: str, url: str, authorization: str | None, data: Mapping[str, str] | None
    ) -> tuple[int, bytes]:
        response = self._follow(method, url, {"Accept": "application/json"}, authorization, data)
        with response:
            if response.status_code == 429 or response.status_code >= 500:
                raise self._failure(response, "a token")
            try:
                return response.status_code, read_at_most(response, MAX_ERROR)
            except BROKEN as error:
                raise self._connections.explain(error, url) from None

    def _is_ours(self, url: str) -> bool:
        return origin_of(url) == origin_of(self.base)

    def _failure(self, response: requests.Response, what: str) -> RegistryError:
        """Return the error that a response means."""
        status, host = response.status_code, host_of(response.url)
        ours = self._is_ours(response.url)
        # Storage's own words quote the signed request; they are never shown.
        body = _body(response) if ours else ""
        said = _said(body)
        name = self.registry if ours else f"{host}, where {self.registry} sent us,"
        if status == 429:
            return self._rate_limit(response, name, said)
        if response.request.method not in READING:
            refused = refusals.writing(status, name, what, body, said)
            if refused:
                return RegistryError(refused[0], status=status, temporary=refused[1])
        if status == 404:
            return RegistryError(f"{what} is not in {self.registry}{said}", status=404)
        if status == 403 and ours:
            hint = "" if self._authorizer.credentials else f": try {login_command(self.registry)}"
            return RegistryError(
                f"{self.registry} does not let us read {what} (403 Forbidden{said}){hint}",
                status=403,
            )
        return RegistryError(
            f"{name} answered {status} {_printable(str(response.reason))} for {what}"
            f"{said if status >= 400 else ': is that a registry?'}",
            status=status,
            # A signed address that has ended answers 400 or 403; the registry gives a new one.
            temporary=status >= 500 or status == 408 or not ours,
            retry_after=_retry_after(response),
        )

    def _rate_limit(self, response: requests.Response, name: str, said: str) -> RegistryError:
        pause = _retry_after(response)
        # Docker Hub tells its window instead: "ratelimit-limit: 100;w=21600".
        window = re.search(r"\bw=(\d{1,9})\b", response.headers.get("RateLimit-Limit", ""))
        if pause is not None:
            when = f"try again in {_duration(pause)}"
        elif window:
            when = f"its window is {_duration(float(window[1]))}"
        else:
            when = "try again later"
        hint = ""
        if not self._authorizer.credentials:
            hint = f", or raise the limit with {login_command(self.registry)}"
        return RegistryError(
            f"{name} limits the rate of requests (429{said}): {when}{hint}",
            status=429,
            temporary=pause is not None or not window,
            retry_after=pause,
        )


def _body(response: requests.Response) -> str:
    try:
        return read_at_most(response, MAX_ERROR).decode("utf-8", "replace")
    except BROKEN:
        return ""


def _said(body: str) -> str:
    """Return the registry's own words (dist-spec, error codes), on one line, after a colon."""
    try:
        document: Any = json.loads(body)
        first = document["errors"][0]
        text = str(first.get("message") or first.get("code") or "")
    except (ValueError, LookupError, TypeError, AttributeError, RecursionError):
        return ""
    # No escape sequences and no addresses with queries from outside onto a terminal.
    text = re.sub(r"\?\S+", "?…", _printable(text)).strip()
    return f": {text[:200]}" if text else ""


def _printable(text: str) -> str:
    return re.sub(r"[^ -~]+", " ", text)


def _retry_after(response: requests.Response) -> float | None:
    """Return what Retry-After says, in seconds (RFC 9110, 10.2.3: a number or a date)."""
    text = response.headers.get("Retry-After", "").strip()
    if text.isdecimal():
        return float(text[:9])
    try:
        return max(0.0, email.utils.parsedate_to_datetime(text).timestamp() - time.time())
    except (TypeError, ValueError, OverflowError):
        return None


def _duration(seconds: float) -> str:
    for unit, size in (("h", 3600), ("min", 60)):
        if seconds >= 2 * size:
            return f"{seconds / size:.0f} {unit}"
    return f"{seconds:.0f} s"
