"""The connection to a Docker Engine: made in one place, its errors told in one line.

`docker` is imported inside functions only, since the daemonless path never needs it. The
environment says which Engine, as for the docker command: DOCKER_HOST, DOCKER_TLS_VERIFY,
DOCKER_CERT_PATH.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from assembler.errors import AssemblerError

# Seconds for a question that the Engine answers at once.
QUICK = 60.0
# Seconds without one byte. Before `docker save` begins, an Engine copies the whole image into
# its temporary folder, and after the last byte of `docker load` it unpacks every layer: minutes
# for 16 GB on a slow disk, where docker-py would give up after 60 s.
LONG = 3600.0


class EngineError(AssemblerError):
    """No Engine answers, it refuses us, or it went away."""


def connect() -> Any:
    """Return a `docker.APIClient` of the newest API version that the Engine and the SDK share.

    Raises EngineError where no Engine answers or it may not be used. Close it after use.
    """
    import docker
    from docker.utils import kwargs_from_env

    host = os.environ.get("DOCKER_HOST") or "unix:///var/run/docker.sock"
    try:
        _knock(host)
        return docker.APIClient(version="auto", timeout=QUICK, **kwargs_from_env())
    except (docker.errors.DockerException, OSError) as error:
        raise EngineError(_unreachable(host, error)) from None


def answers() -> bool:
    """Tell whether an Engine answers here that we may use."""
    try:
        connect().close()
    except EngineError:
        return False
    return True


def uses_containerd(client: Any) -> bool:
    """Tell whether the Engine keeps images in containerd (the default of new ones since 29).

    Such an Engine names an image by its manifest's digest, the classic store by its config's
    (docs.docker.com/engine/storage/containerd).
    """
    status = client.info().get("DriverStatus") or ()
    return any("io.containerd.snapshotter" in str(value) for pair in status for value in pair)


@contextmanager
def engine_errors(doing: str) -> Iterator[None]:
    """Turn whatever the SDK or the connection raises into an EngineError about `doing`."""
    import docker
    import requests
    import urllib3

    try:
        yield
    except docker.errors.APIError as error:
        raise EngineError(
            f"{doing}: the Engine says: {_line(error.explanation or error)}"
        ) from None
    except (
        docker.errors.DockerException,
        requests.RequestException,
        urllib3.exceptions.HTTPError,
        OSError,
    ) as error:
        raise EngineError(
            f"{doing}: the connection to the Docker Engine broke ({_line(_root(error))}); "
            "see that it runs and has free disk space (docker system df), then run this again"
        ) from None


def _knock(host: str) -> None:
    # docker-py leaves its socket open when this fails, and wraps the reason four times.
    if host.startswith("unix://"):
        with socket.socket(socket.AF_UNIX) as probe:
            probe.settimeout(QUICK)
            probe.connect("/" + host[len("unix://") :].lstrip("/"))


def _unreachable(host: str, error: BaseException) -> str:
    cause = _root(error)
    if isinstance(cause, PermissionError):
        return (
            f"no permission to use the Docker Engine at {host}: "
            "join the group docker (and log in again) or run this with sudo"
        )
    if isinstance(cause, FileNotFoundError | ConnectionError):
        return f"no Docker Engine answers at {host} (is it started?): start it or set DOCKER_HOST"
    if host.startswith("ssh://"):
        return f"the Docker Engine at {host} cannot be used: pip install 'docker[ssh]' for ssh://"
    return f"the Docker Engine at {host} cannot be used: {_line(cause)}"


def _root(error: BaseException) -> BaseException:
    """The error at the bottom: the SDK and requests wrap it in `args`, `cause` or `context`."""
    seen: set[int] = set()
    while id(error) not in seen:
        seen.add(id(error))
        inner = [each for each in error.args if isinstance(each, BaseException)]
        under = next(iter(inner), None) or error.__cause__ or error.__context__
        if under is None or (isinstance(error, OSError) and error.errno is not None):
            break
        error = under
    return error


def _line(text: object) -> str:
    return " ".join(str(text).split()) or type(text).__name__
