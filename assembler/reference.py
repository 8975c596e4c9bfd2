"""Image names and transports, written as skopeo writes them.

`nvcr.io/nvidia/tritonserver:24.05-py3`, `ubuntu`, `docker://host:5000/name@sha256:…`,
`docker-daemon:name:tag`, `docker-archive:FILE[:name:tag]`, `oci-archive:FILE[:name]`,
`oci:DIR[:name]`.
Grammar: github.com/distribution/reference.
"""

from __future__ import annotations

import ipaddress
import re
from dataclasses import dataclass

from assembler.errors import UsageError
from assembler.oci import is_digest

FILE_TRANSPORTS = ("docker-archive", "oci-archive", "oci")
TRANSPORTS = ("docker", "docker-daemon", *FILE_TRANSPORTS)

_COMPONENT = r"[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*"
_REPOSITORY = re.compile(rf"{_COMPONENT}(?:/{_COMPONENT})*")
_HOST = re.compile(r"(?:[A-Za-z0-9](?:[A-Za-z0-9.-]*[A-Za-z0-9])?|\[[0-9a-fA-F:.]+\])(?::[0-9]+)?")
_TAG = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}")


@dataclass(frozen=True)
class ImageName:
    """A name in a registry: host with port, repository, and a tag or a digest (or both)."""

    registry: str
    repository: str
    tag: str | None
    digest: str | None

    @classmethod
    def parse(cls, text: str, *, default_tag: str | None = "latest") -> ImageName:
        """Return the normalised name of `text`; UsageError says what is wrong with it.

        A first component without a dot, colon or the name localhost is not a host: the image is
        Docker Hub's, and a name of one component there lies in `library/` (as docker has it).
        """
        name, at, digest = text.partition("@")
        if at and not is_digest(digest):
            raise UsageError(f"{text!r}: {digest!r} is not a digest (sha256:<64 hex digits>)")
        head, slash, rest = name.partition("/")
        if slash and (set(head) & {".", ":", "["} or head == "localhost"):
            registry, path = head, rest
        else:
            registry, path = "docker.io", name
        if registry == "index.docker.io":
            registry = "docker.io"
        repository, colon, tag = path.partition(":")
        if registry == "docker.io" and "/" not in repository:
            repository = f"library/{repository}"
        if not _HOST.fullmatch(registry):
            raise UsageError(f"{text!r} is not an image name: bad registry host {registry!r}")
        if not _REPOSITORY.fullmatch(repository) or len(repository) > 255:
            hint = " (repository names are lower case)" if repository.lower() != repository else ""
            raise UsageError(f"{text!r} is not an image name: bad repository {path!r}{hint}")
        if colon and not _TAG.fullmatch(tag):
            raise UsageError(f"{text!r} is not an image name: bad tag {tag!r}")
        return cls(registry, repository, tag or (None if at else default_tag), digest or None)

    def __str__(self) -> str:
        tag = f":{self.tag}" if self.tag else ""
        digest = f"@{self.digest}" if self.digest else ""
        return f"{self.registry}/{self.repository}{tag}{digest}"

    @property
    def familiar(self) -> str:
        """The name as docker shows it: without docker.io/library/."""
        return str(self).removeprefix("docker.io/").removeprefix("library/")

    @property
    def reference(self) -> str:
        """What to ask the registry for: the digest where there is one, else the tag."""
        return self.digest or self.tag or "latest"


@dataclass(frozen=True)
class Reference:
    """A transport and what it points at: `name` for docker and docker-daemon, `path` for files."""

    transport: str
    name: ImageName | None = None
    path: str = ""
    within: str = ""

    @classmethod
    def parse(cls, text: str) -> Reference:
        """Return the reference that `text` names; UsageError says what is wrong with it.

        `within` picks one image of a file that holds several (the part after the path's colon).
        """
        transport, colon, rest = text.partition(":")
        if not colon or transport not in TRANSPORTS:
            return cls("docker", ImageName.parse(text))
        if transport == "docker":
            if not rest.startswith("//"):
                raise UsageError(f"{text!r}: write docker://HOST/NAME:TAG")
            return cls("docker", ImageName.parse(rest[2:]))
        if transport == "docker-daemon":
            if is_digest(rest):
                return cls(transport, None, within=rest)
            return cls(transport, ImageName.parse(rest))
        path, _, within = rest.partition(":")
        if not path:
            raise UsageError(f"{text!r} names no file: write {transport}:PATH")
        return cls(transport, None, path, within)

    def __str__(self) -> str:
        if self.transport == "docker":
            return str(self.name)
        if self.transport == "docker-daemon":
            return f"docker-daemon:{self.name.familiar if self.name else self.within}"
        return f"{self.transport}:{self.path}" + (f":{self.within}" if self.within else "")

    @property
    def is_remote(self) -> bool:
        """Whether reading it needs the network."""
        return self.transport == "docker"


def is_loopback(registry: str) -> bool:
    """Tell whether a registry host (port or none) is this machine, where plain HTTP is fine."""
    host = registry.rsplit(":", 1)[0] if not registry.endswith("]") else registry
    host = host.strip("[]")
    if host == "localhost" or host.endswith(".localhost"):
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
