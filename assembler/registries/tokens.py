"""Proof to a registry that we may read or write: Basic, and bearer tokens from the realm it names.

Source: distribution's specification of token authentication (docs/spec/auth/token.md).
"""

from __future__ import annotations

import base64
import ipaddress
import json
import re
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol
from urllib.parse import parse_qsl, urlencode, urlsplit, urlunsplit

from assembler.registries.connections import RegistryError, host_of
from assembler.registries.credentials import Credentials, login_command

DEFAULT_LIFETIME = 60.0  # seconds, where a token does not say (token.md, "expires_in")
EARLY = 5.0  # seconds before its end that a token is renewed (regclient, auth.go)
CLIENT_ID = "triton-assembler"

Scopes = tuple[str, ...]

_SCHEME = re.compile(r"\s*,?\s*([A-Za-z][\w-]*)(?=[\s,]|$)")
_PARAMETER = re.compile(r'\s*,?\s*([A-Za-z][\w-]*)\s*=\s*(?:"((?:[^"\\]|\\.)*)"|([^\s,"]+))')


def pull(repository: str) -> Scopes:
    """Return the scope for reading `repository`; nvcr.io names none (ggcr #728)."""
    return (f"repository:{repository}:pull",)


def push(repository: str) -> Scopes:
    """Return the scope for writing into `repository`, which goes with reading it (token.md)."""
    return (f"repository:{repository}:pull,push",)


@dataclass(frozen=True)
class Challenge:
    """One way to log in that a `WWW-Authenticate` header offers; scheme in lower case."""

    scheme: str
    parameters: Mapping[str, str]


def parse_challenges(header: str) -> list[Challenge]:
    """Return the challenges of a `WWW-Authenticate` header (RFC 9110, 11.6.1), in order."""
    found: list[tuple[str, dict[str, str]]] = []
    position = 0
    while position < len(header):
        if found and (match := _PARAMETER.match(header, position)):
            value = re.sub(r"\\(.)", r"\1", match[2]) if match[2] is not None else match[3]
            found[-1][1][match[1].lower()] = value
        elif match := _SCHEME.match(header, position):
            found.append((match[1].lower(), {}))
        else:
            break
        position = match.end()
    return [Challenge(scheme, parameters) for scheme, parameters in found]


def basic(username: str, password: str) -> str:
    """Return the header for a user name and password: as they are, in UTF-8 (RFC 7617)."""
    return "Basic " + base64.b64encode(f"{username}:{password}".encode()).decode()


class Fetch(Protocol):
    """Sends a request to a realm; returns status and body, or raises RegistryError (429, 5xx)."""

    def __call__(
        self, method: str, url: str, authorization: str | None, data: Mapping[str, str] | None
    ) -> tuple[int, bytes]: ...


class Authorizer:
    """Makes Authorization headers for one registry, and remembers tokens; any thread may use it.

    base: the registry's own URL. plain: whether a host may be spoken to over HTTP.
    find: gives its credentials, asked at most once, when needed.
    clock: seconds; ours, since those of registries disagree (regclient, auth.go).
    """

    def __init__(
        self,
        registry: str,
        base: str,
        plain: Callable[[str], bool],
        find: Callable[[str], Credentials | None],
        fetch: Fetch,
        clock: Callable[[], float],
    ) -> None:
        self._registry, self._base, self._plain = registry, base, plain
        self._find, self._fetch, self._clock = find, fetch, clock
        self._lock = threading.RLock()
        self._tokens: dict[Scopes, tuple[str, float]] = {}
        self._basic: str | None = None
        self._looked = False
        self._credentials: Credentials | None = None

    @property
    def credentials(self) -> Credentials | None:
        with self._lock:
            if not self._looked:
                self._credentials, self._looked = self._find(self._registry), True
            return self._credentials

    def header(self, scopes: Scopes) -> str | None:
        """Return what served last time, unless it has ended or is about to."""
        with self._lock:
            if self._basic is not None:
                return self._basic
            token, end = self._tokens.get(scopes, ("", 0.0))
            return token if token and self._clock() < end else None

    def forget(self, scopes: Scopes, header: str) -> None:
        """Forget `header`, which the registry refused."""
        with self._lock:
            if self._tokens.get(scopes, ("",))[0] == header:
                del self._tokens[scopes]
            if self._basic == header:
                self._basic = None

    def answer(self, challenge: str, scopes: Scopes, what: str) -> str:
        """Return the header that answers the `WWW-Authenticate` header of a 401.

        Raises RegistryError (401) that tells whether a login is missing or wrong.
        """
        with self._lock:
            # While this thread waited, another may have brought the token.
            if renewed := self.header(scopes):
                return renewed
            offered = {each.scheme: each for each in reversed(parse_challenges(challenge))}
            if "bearer" in offered and offered["bearer"].parameters.get("realm"):
                header, end = self._token(offered["bearer"].parameters, scopes, what)
                self._tokens[scopes] = (header, end)
                return header
            if "basic" in offered and self.credentials and self.credentials.username:
                self._basic = basic(self.credentials.username, self.credentials.password)
                return self._basic
            raise self.refusal(what, scopes)

    def refusal(self, what: str, scopes: Scopes) -> RegistryError:
        """Return the error for a 401 that is final."""
        login = login_command(self._registry)
        if any(scope.endswith("push") for scope in scopes):
            # A token server leaves out what somebody may not do, so this is not a wrong password.
            whose = "the login stored for it" if self.credentials is not None else "us"
            text = (
                f"{self._registry} does not let {whose} write {what} (401 Unauthorized): "
                f"{login} as somebody who may push there"
            )
        elif self.credentials is not None:
            text = f"{self._registry} refuses the login that is stored for it: {login} again"
        else:
            text = f"{what}: {self._registry} wants a login, or has no such image: {login} first"
        return RegistryError(text, status=401)

    def _token(self, given: Mapping[str, str], scopes: Scopes, what: str) -> tuple[str, float]:
        realm = given["realm"]
        self._check_realm(realm)
        # What the registry asked for comes first: some read only one scope (ggcr, bearer.go).
        wanted = tuple(dict.fromkeys([*given.get("scope", "").split(), *scopes]))
        service = [("service", given["service"])] if given.get("service") else []
        started = self._clock()
        status, body = self._ask(realm, service, wanted)
        if status in (400, 401, 403):
            raise self.refusal(what, scopes)
        try:
            document: Any = json.loads(body) if status == 200 else None
        except (ValueError, RecursionError):
            document = None
        fields = document if isinstance(document, dict) else {}
        token = fields.get("token") or fields.get("access_token")
        # What would end the header early, or start another one, is no token.
        if not isinstance(token, str) or not re.fullmatch(r"[!-~]+", token):
            raise RegistryError(
                f"{host_of(realm)} gives no token for {what} (status {status})",
                status=401,
            )
        try:
            lifetime = float(fields.get("expires_in") or DEFAULT_LIFETIME)
        except (TypeError, ValueError):
            lifetime = DEFAULT_LIFETIME
        return f"Bearer {token}", started + lifetime - min(EARLY, lifetime / 2)

    def _ask(self, realm: str, service: list[tuple[str, str]], scopes: Scopes) -> tuple[int, bytes]:
        credentials = self.credentials
        authorization = None
        if credentials and credentials.identity_token:
            form = dict(service) | {
                "grant_type": "refresh_token",
                "refresh_token": credentials.identity_token,
                "client_id": CLIENT_ID,
                "scope": " ".join(scopes),
            }
            status, body = self._fetch("POST", realm, None, form)
            if status not in (404, 405):
                return status, body
            # A realm without OAuth2 (ggcr, bearer.go); docker's name for "not a password".
            authorization = basic(credentials.username or "<token>", credentials.identity_token)
        elif credentials:
            authorization = basic(credentials.username, credentials.password)
        parts = urlsplit(realm)
        query = [
            *parse_qsl(parts.query, keep_blank_values=True),
            *service,
            *(("scope", scope) for scope in scopes),
        ]
        return self._fetch(
            "GET", urlunsplit(parts._replace(query=urlencode(query))), authorization, None
        )

    def _check_realm(self, realm: str) -> None:
        """Refuse a realm that would carry our password in the clear, or into a private network.

        Source: go-containerregistry #2258.
        """
        ours, theirs = urlsplit(self._base), urlsplit(realm)
        if theirs.hostname == ours.hostname and theirs.scheme in ("https", ours.scheme):
            return
        in_the_clear = theirs.scheme == ours.scheme == "http" and self._plain(theirs.netloc)
        refused = theirs.scheme != "https" and not in_the_clear
        if not refused and ours.scheme == "https":
            try:
                address = ipaddress.ip_address(theirs.hostname or "")
                refused = not address.is_global
            except ValueError:
                refused = not theirs.hostname
        if refused:
            raise RegistryError(
                f"{self._registry} sends us for a token to {theirs.scheme}://{host_of(realm)}, "
                "which is not safe to ask",
                status=401,
            )
