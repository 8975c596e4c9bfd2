"""``python -m tests.serving IMAGE``: serve the test models from an image and check all of it."""

from __future__ import annotations

import argparse
import sys
import tempfile
from pathlib import Path

import docker
import requests
from docker.errors import DockerException
from rich.console import Console
from rich.table import Table

from tests.serving.client import check_all
from tests.serving.models import write_repository
from tests.serving.server import ServerError, serve


def run(image: str, shm: str, pull: bool = False) -> list[tuple[str, str | None]]:
    """Start the image, make all checks, stop it; starting and stopping are checks as well."""
    results: list[tuple[str, str | None]] = []
    step = "becomes ready"
    with tempfile.TemporaryDirectory() as folder:
        write_repository(Path(folder))
        try:
            if pull:
                docker.from_env().images.pull(image)
            with serve(image, Path(folder), shm=shm) as server:
                results.append((f"ready after {server.ready_seconds:.1f} s", None))
                results += check_all(server.client)
                step = "ends after SIGTERM"
                stopped = server.stop()
                error = f"exit status {stopped.exit_code}" if stopped.exit_code else None
                results.append((f"ended {stopped.seconds:.1f} s after SIGTERM", error))
        except (ServerError, DockerException, requests.RequestException) as problem:
            # A server that died on the way must not take the results so far with it.
            results.append((step, str(problem)))
    return results


def main(arguments: list[str] | None = None) -> int:
    """The command; its value is the exit status."""
    parser = argparse.ArgumentParser(prog="python -m tests.serving", description=__doc__)
    parser.add_argument("image", help="an image the engine has, or with --pull one it can get")
    parser.add_argument("--shm", default="256m", help="size of /dev/shm (default: %(default)s)")
    parser.add_argument("--pull", action="store_true", help="pull the image first")
    options = parser.parse_args(arguments)
    results = run(options.image, options.shm, options.pull)
    table = Table("check", "result", title=options.image)
    for name, error in results:
        # Errors quote server output, where brackets are no markup.
        table.add_row(name, "[green]ok[/]" if error is None else error.replace("[", r"\["))
    Console().print(table)
    return 1 if any(error for _, error in results) else 0


if __name__ == "__main__":
    sys.exit(main())
