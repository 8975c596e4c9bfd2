"""Python: what the python backend starts, and the numpy that it finds."""

from __future__ import annotations

import re
from collections.abc import Callable

from packaging.utils import canonicalize_name
from packaging.version import InvalidVersion, Version

from assembler import releases
from assembler.verify.checks import Failed, Skipped
from assembler.verify.files import STUB, TOP, Files
from assembler.verify.scripts import missing_interpreter

_LIBPYTHON = re.compile(r"libpython(3\.\d+)\w*\.so.*")
_UMATH = re.compile(r"_multiarray_umath\.(?:cpython-(\d)(\d+)\S*|abi3)\.so")


class Python:
    """The checks of this module. They are skipped where no backend is served by Python."""

    def __init__(self, files: Files) -> None:
        self.files = files

    def checks(self) -> list[tuple[str, Callable[[], str]]]:
        """Return name and check of each."""
        return [
            ("stub-executable", self.stub_executable),
            ("bash", self.bash),
            ("python3-on-path", self.python3),
            ("stub-python", self.stub_python),
            ("pip", self.pip),
            ("numpy", self.numpy),
            ("pins", self.pins),
        ]

    def _needs_python(self) -> None:
        if not self.files.kind(f"{TOP}/backends/python"):
            raise Skipped("no python backend")

    def _stub_version(self) -> str:
        """Return the Python that the stub is linked to, like 3.10."""
        real = self.files.tree.resolve(STUB)
        found = self.files.elf_at(real) if real else None
        names = [m[1] for s in (found.needed if found else ()) if (m := _LIBPYTHON.fullmatch(s))]
        if not names:
            raise Skipped("the stub does not say which Python it is for")
        return names[0]

    def stub_executable(self) -> str:
        """The stub may be executed; the backend starts it as a program."""
        self._needs_python()
        real = self.files.need(STUB)
        mode = self.files.tree[real].mode
        if not self.files.is_executable(STUB):
            raise Failed(f"/{STUB} has mode {mode:04o}: it may not be executed (chmod 755)")
        return f"mode {mode:04o}"

    def bash(self) -> str:
        """The python backend starts its stub through bash (stub_launcher.cc)."""
        self._needs_python()
        if self.files.is_executable("bin/bash") or self.files.which("bash"):
            return "/bin/bash"
        raise Failed("no bash: the python backend starts its stub through it and never gets ready")

    def python3(self) -> str:
        """`python3` leads to a Python of the stub's version: the stub finds its modules by it."""
        self._needs_python()
        path = self.files.which("python3")
        if path is None:
            folders = ":".join(f"/{folder}" for folder in self.files.search_path())
            raise Failed(f"no python3 on PATH={folders}: the stub finds neither numpy nor modules")
        real = self.files.need(path)
        match = re.search(r"python(3\.\d+)$", real)
        try:
            wanted = self._stub_version()
        except Skipped:
            return f"/{path}"
        if match and match[1] != wanted:
            raise Failed(f"/{path} is Python {match[1]}, but the stub is for {wanted}")
        return f"/{path} is Python {match[1] if match else '3'}"

    def stub_python(self) -> str:
        """The stub's Python has its standard library."""
        self._needs_python()
        version = self._stub_version()
        homes = [f"usr/lib/python{version}", f"usr/local/lib/python{version}"]
        homes += [f"{folder.rpartition('/')[0]}/lib/python{version}" for folder in self._prefixes()]
        if any(self.files.kind(f"{home}/os.py") == "file" for home in homes):
            return f"Python {version}, with its standard library"
        raise Failed(f"the stub is for Python {version}, whose standard library is missing")

    def pip(self) -> str:
        """`pip` is on PATH and its interpreter is there: derived images install with it."""
        self._needs_python()
        path = self.files.which("pip")
        if path is None:
            if self.files.which("pip3"):
                raise Failed("pip3 is on PATH, but no pip")
            raise Failed("no pip on PATH: an image derived from this cannot pip install")
        missing = missing_interpreter(self.files, path)
        if missing:
            raise Failed(f"/{path} wants {missing}, which is missing")
        return f"/{path}"

    # -- numpy -----------------------------------------------------------------------------

    def _prefixes(self) -> list[str]:
        """Return the bin folder of the first python3 on PATH, and that of the one it leads to."""
        path = self.files.which("python3")
        return [path.rpartition("/")[0]] if path else []

    def _sites(self, version: str) -> list[str]:
        """Return where that Python looks for packages, in order."""
        found = [f.strip("/") for f in self.files.env().get("PYTHONPATH", "").split(":") if f]
        for folder in self._prefixes():
            prefix = folder.rpartition("/")[0]
            if self.files.kind(f"{prefix}/pyvenv.cfg") == "file":
                return [*found, f"{prefix}/lib/python{version}/site-packages"]
        return [
            *found,
            f"usr/local/lib/python{version}/dist-packages",
            "usr/lib/python3/dist-packages",
            f"usr/local/lib/python{version}/site-packages",
            f"usr/lib/python{version}/site-packages",
        ]

    def numpy(self) -> str:
        """numpy is there, for the stub's Python, of a major version that the stub takes."""
        self._needs_python()
        python = self._stub_version()
        folder = next(
            (f"{site}/numpy" for site in self._sites(python)
             if self.files.kind(f"{site}/numpy/__init__.py") == "file"), None,
        )  # fmt: skip
        if folder is None:
            others = [
                path.rpartition("/")[0]
                for path in self.files.tree
                if path.endswith("-packages/numpy/__init__.py")
            ]
            if others:
                raise Failed(f"no numpy for Python {python}, the stub's: /{others[0]} is another's")
            raise Failed(f"no numpy for Python {python}: the python backend cannot import it")
        tags = [
            match
            for sub in ("core", "_core")
            for name in self.files.tree.children(self.files.tree.resolve(f"{folder}/{sub}") or "-")
            if (match := _UMATH.fullmatch(name))
        ]
        if not tags:
            raise Failed(f"/{folder} has no _multiarray_umath: it is not whole")
        built = {f"{tag[1]}.{tag[2]}" if tag[1] else python for tag in tags}
        if python not in built:
            raise Failed(
                f"/{folder} is built for Python {', '.join(sorted(built))}, the stub is for "
                f"{python}"
            )
        version = self.version_at(folder)
        if version and version.major >= 2 and not self._takes_numpy_2():
            raise Failed(
                f"numpy {version} at /{folder}: this python backend takes numpy 1 only, and gives "
                "models wrong numbers with numpy 2 (pip install 'numpy<2')"
            )
        return f"numpy {version or '?'} for Python {python}"

    def version_at(self, folder: str) -> Version | None:
        """Return the version of the numpy in a folder, by its own version.py; before numpy 1.26
        that asks _version.py, which has it in a JSON text.
        """
        names = ("version.py", "_version.py")
        text = "\n".join(self.files.read_text(f"{folder}/{name}") or "" for name in names)
        match = re.search(
            r'^\s*(?:(?:version|full_version)\s*=|"version":)\s*"([^"]+)"', text, re.MULTILINE
        )
        try:
            return Version(match[1]) if match else None
        except InvalidVersion:
            return None

    def _takes_numpy_2(self) -> bool:
        """Tell whether the stub was built with pybind11 2.12 or later.

        Before that pybind11/numpy.h imports numpy.core.multiarray by that name; since then it asks
        numpy.lib.NumpyVersion which of numpy.core and numpy._core it is.
        """
        data = self.files.read(STUB) or b""
        if b"NumpyVersion" in data:
            return True
        if b"numpy.core.multiarray" in data:
            return False
        release = releases.of_image(self.files.env())
        return release is not None and Version(release) >= Version("24.11")

    def pins(self) -> str:
        """What keeps pip from another numpy names files that exist and the numpy that is there."""
        self._needs_python()
        constraints: dict[str, str] = {}
        for name in ("PIP_CONSTRAINT", "UV_CONSTRAINT"):
            for path in self.files.env().get(name, "").split():
                constraints.setdefault(path, name)
        for line in (self.files.read_text("etc/pip.conf") or "").splitlines():
            key, _, value = line.partition("=")
            if key.strip() == "constraint":
                constraints |= dict.fromkeys(value.split(), "/etc/pip.conf")
        pinned = ""
        for path, whose in constraints.items():
            text = self.files.read_text(path.lstrip("/")) if path.startswith("/") else None
            if text is None:
                raise Failed(f"{whose} names {path}, which is missing: every pip install fails")
            for line in text.splitlines():
                name, equals, version = line.partition("#")[0].partition("==")
                if equals and canonicalize_name(name.strip()) == "numpy":
                    pinned = version.partition(";")[0].strip()
        if not pinned:
            raise Skipped("no pin: a later pip install may bring another numpy")
        for site in self._sites(self._stub_version()):
            found = self.version_at(f"{site}/numpy")
            if found is not None:
                if found != Version(pinned):
                    raise Failed(f"numpy is pinned to {pinned}, but {found} is there")
                return f"numpy {pinned}"
        raise Failed(f"numpy is pinned to {pinned}, but none is there")
