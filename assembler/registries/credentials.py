"""Credentials for a registry, as `docker login` stored them.

docker's own rules (config.json, credential helpers, Hub's key `https://index.docker.io/v1/`)
come from the SDK's `docker.auth`, which is imported only when the config file says
something about the registry in question: the daemonless path never imports `docker`.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any


def ignore(_: str) -> None:
    """Take a warning, or a registry's name, and do nothing."""


@dataclass(frozen=True)
class Credentials:
    """A user name with a password, or an identity token (OAuth2 refresh token). Never printed."""

    username: str = field(default="", repr=False)
    password: str = field(default="", repr=False)
    identity_token: str = field(default="", repr=False)


def login_command(registry: str) -> str:
    """Return the command that stores credentials for `registry`, for messages."""
    return "`docker login`" if registry == "docker.io" else f"`docker login {registry}`"


def config_file(environ: Mapping[str, str] = os.environ) -> Path:
    """Return the path of docker's config.json, whether it exists or not."""
    folder = environ.get("DOCKER_CONFIG")
    return (Path(folder) if folder else Path("~/.docker").expanduser()) / "config.json"


def _host(key: str) -> str:
    """Return the registry that a key of `auths` means; old clients wrote whole URLs."""
    host = key.removeprefix("http://").removeprefix("https://").partition("/")[0]
    return "docker.io" if host == "index.docker.io" else host


class DockerLogin:
    """Finds credentials; whatever is wrong with them is one warning, and then there are none."""

    def __init__(self, warn: Callable[[str], None] = ignore, path: Path | None = None) -> None:
        self._warn, self._path = warn, path
        self._warned: set[str] = set()

    def find(self, registry: str) -> Credentials | None:
        """Return the credentials stored for `registry` (host and port), or None."""
        config = self._relevant(registry)
        if not config:
            return None
        from docker import auth
        from docker.errors import DockerException

        try:
            loaded = auth.load_config(config_dict=config)
            helper = loaded.get_credential_store(registry)
            # docker.auth gives up on a helper that is missing (a warning, then an exception),
            # though the file itself may hold what we look for.
            if helper and not shutil.which(f"docker-credential-{helper}"):
                self._say(f"docker-credential-{helper}, named in {self._where()}, is not installed")
                loaded = auth.AuthConfig({"auths": loaded.auths})
            found = loaded.resolve_authconfig(registry)
        # Malformed entries and helpers that print nonsense surface as these.
        except (DockerException, ValueError, KeyError, TypeError, OSError):
            self._say(f"the credentials for {registry} in {self._where()} cannot be read")
            return None
        return self._credentials(found or {})

    @staticmethod
    def _credentials(found: Mapping[str, Any]) -> Credentials | None:
        # From a helper the keys are capitalised, from the file they are not.
        lower = {key.lower(): value or "" for key, value in found.items()}
        made = Credentials(
            lower.get("username", ""), lower.get("password", ""), lower.get("identitytoken", "")
        )
        return made if made.identity_token or made.username else None

    def _relevant(self, registry: str) -> dict[str, Any]:
        """Return the part of config.json that can concern `registry`, empty if there is none."""
        try:
            document = json.loads(self._where().read_bytes())
        except (FileNotFoundError, NotADirectoryError):
            return {}
        except (OSError, ValueError) as error:
            reason = getattr(error, "strerror", None) or "it is not JSON"
            self._say(f"{self._where()} cannot be read ({reason})")
            return {}
        if not isinstance(document, dict):
            return {}
        kept: dict[str, Any] = {}
        auths = document.get("auths")
        if isinstance(auths, dict):
            # Entries of other registries stay out: one of them malformed would spoil them all.
            entries = {
                key: {name: value for name, value in entry.items() if value}
                for key, entry in auths.items()
                if _host(key) == registry and isinstance(entry, dict)
            }
            if any(entries.values()):
                kept["auths"] = entries
        helpers = document.get("credHelpers")
        if isinstance(helpers, dict):
            names = {k: v for k, v in helpers.items() if _host(k) == registry and v}
            if registry == "docker.io" and names:
                # docker.auth looks for Hub's helper under this key alone.
                names["https://index.docker.io/v1/"] = next(iter(names.values()))
            if names:
                kept["credHelpers"] = names
        if isinstance(document.get("credsStore"), str) and document["credsStore"]:
            kept["credsStore"] = document["credsStore"]
        return kept

    def _where(self) -> Path:
        return self._path or config_file()

    def _say(self, text: str) -> None:
        if text not in self._warned:
            self._warned.add(text)
            self._warn(f"{text}: going on without a login")
