"""The rest of the file system and the image's settings: server, entry point, users, links."""

from __future__ import annotations

import posixpath
from collections.abc import Callable, Iterator

from assembler import elf
from assembler.verify.checks import Failed, Skipped, require
from assembler.verify.files import LIBRARY, SERVER, TOP, Files
from assembler.verify.scripts import changes_folder, missing_interpreter

BUNDLE = "etc/ssl/certs/ca-certificates.crt"
# Backends that serve models on a CPU; `ensemble` is part of the server.
GPU_ONLY = ("dali", "fil", "tensorrt", "tensorrtllm", "vllm")
_ELSEWHERE = ("proc/", "dev/", "sys/", "run/", "var/run/", "tmp/")


class System:
    """The checks of this module."""

    def __init__(self, files: Files) -> None:
        self.files = files

    def checks(self) -> list[tuple[str, Callable[[], str]]]:
        """Return name and check of each."""
        return [
            ("server", self.server),
            ("server-on-path", self.on_path),
            ("backends", self.backends),
            ("entrypoint", self.entrypoint),
            ("certificates", self.certificates),
            ("users", self.users),
            ("permissions", self.permissions),
            ("dangling-links", self.dangling),
        ]

    def server(self) -> str:
        """tritonserver and its library are there."""
        self.files.need(SERVER)
        if not self.files.is_executable(SERVER):
            raise Failed(f"/{SERVER} may not be executed")
        self.files.need(LIBRARY)
        release = self.files.env().get("NVIDIA_TRITON_SERVER_VERSION", "")
        version = (self.files.read_text(f"{TOP}/TRITON_VERSION") or "").strip()
        version = version or self.files.env().get("TRITON_SERVER_VERSION", "")
        return " ".join(filter(None, ("Triton", version, f"({release})" if release else "")))

    def on_path(self) -> str:
        """`tritonserver` is a command."""
        found = self.files.which("tritonserver")
        if found is None:
            path = self.files.env().get("PATH", "")
            raise Failed(f"tritonserver is not on PATH={path}: the entry point cannot start it")
        return f"/{found}"

    def backends(self) -> str:
        """There are backends, one of them serves on a CPU, and none is an empty folder."""
        found = self.files.backends()
        if not found:
            raise Failed(f"/{TOP}/backends has no backend")
        if not found.keys() - set(GPU_ONLY):
            raise Failed(f"all backends ({', '.join(sorted(found))}) need a GPU")
        empty = set(self.files.tree.children(f"{TOP}/backends")) - found.keys()
        return require(
            (
                f"/{TOP}/backends/{name} has neither libtriton_{name}.so nor model.py"
                for name in sorted(empty)
                if self.files.kind(f"{TOP}/backends/{name}") == "dir"
            ),
            ", ".join(sorted(found)),
        )

    # -- entry point -----------------------------------------------------------------------

    def entrypoint(self) -> str:
        """The entry point can be run, and leaves the working folder as it is."""
        words = self.files.settings.get("Entrypoint") or []
        if not words:
            return "none: the command is run as it is"
        path = words[0].lstrip("/") if "/" in words[0] else self.files.which(words[0])
        if path is None or not self.files.kind(path):
            raise Failed(f"the entry point {words[0]} is missing")
        if not self.files.is_executable(path):
            raise Failed(f"the entry point /{path} may not be executed")
        missing = missing_interpreter(self.files, path)
        if missing:
            raise Failed(f"the entry point /{path} wants {missing}, which is missing")
        return require(self._wanders(path), f"/{path}")

    def _wanders(self, path: str) -> Iterator[str]:
        folder = f"{posixpath.dirname(path)}/entrypoint.d"
        parts = [f"{folder}/{n}" for n in self.files.tree.children(folder) if n.endswith(".sh")]
        for script in (path, *parts):
            text = self.files.read(script) or b""
            if text.startswith(elf.MAGIC):
                continue
            line = changes_folder(text.decode(errors="replace"))
            if line:
                yield (
                    f"the entry point changes the folder (line {line} of /{script}): "
                    "--model-repository=./ would point elsewhere"
                )

    # -- system ----------------------------------------------------------------------------

    def certificates(self) -> str:
        """The bundle of public authorities is there, for pip and repositories over TLS."""
        env = self.files.env()
        path = (env.get("SSL_CERT_FILE") or env.get("REQUESTS_CA_BUNDLE") or BUNDLE).lstrip("/")
        real = self.files.need(path)
        count = self.files.content(real).read().count(b"-----BEGIN CERTIFICATE-----")
        if not count:
            raise Failed(f"/{path} has no certificate: pip and https repositories will fail")
        return f"{count} in /{path}"

    def users(self) -> str:
        """The user that the image runs as exists, and triton-server where the image promises it."""
        known = {}
        for line in (self.files.read_text("etc/passwd") or "").splitlines():
            fields = line.split(":")
            if len(fields) >= 6:
                known[fields[0]] = fields
        ids = {fields[2] for fields in known.values()}
        user = str(self.files.settings.get("User") or "root").partition(":")[0]
        if user not in known and not (user.isdigit()):
            raise Failed(f"the image runs as {user}, who is not in /etc/passwd")
        promised = self.files.env().get("TRITON_SERVER_USER", "")
        if not promised:
            return f"runs as {user}" + ("" if user in known or user in ids else " (no name)")
        if promised not in known:
            raise Failed(
                f"TRITON_SERVER_USER is {promised}, who is not in /etc/passwd: "
                f"docker run --user {promised} fails"
            )
        return f"runs as {user}; {promised} is {known[promised][2]}:{known[promised][3]}"

    def permissions(self) -> str:
        """What the server reads may be read by any user; /tmp is open to all."""
        tree, problems = self.files.tree, []
        for path in tree.below(TOP):
            entry = tree[path]
            wanted = {"file": 0o004, "dir": 0o005}.get(entry.kind, 0)
            if entry.mode & wanted != wanted:
                problems.append(f"/{path} has mode {entry.mode:04o}: not for every user")
        temporary = tree.resolve("tmp")
        if temporary is None or tree[temporary].mode & 0o1777 != 0o1777:
            problems.append("/tmp is not there for every user (mode 1777)")
        return require(problems, f"/{TOP} may be read by every user")

    def dangling(self) -> str:
        """No link among programs, libraries and the server's files leads nowhere."""
        tree = self.files.tree
        roots = ("opt/", "usr/bin/", "usr/sbin/", "usr/local/bin/", "bin/", "sbin/")
        problems, count = [], 0
        for path in tree:
            entry = tree[path]
            library = ".so" in path.rpartition("/")[2] and "lib" in path
            if entry.kind != "symlink" or not (library or path.startswith(roots)):
                continue
            count += 1
            target = posixpath.normpath(
                posixpath.join("/", posixpath.dirname(path), entry.link)
            ).lstrip("/")
            if tree.resolve(path) is None and not target.startswith(_ELSEWHERE):
                problems.append(f"/{path} -> {entry.link} leads nowhere")
        if not count:
            raise Skipped("no links")
        return require(sorted(problems), f"{count} links lead somewhere")
