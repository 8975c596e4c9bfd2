"""What an image is made of: Debian packages, Python packages, Triton and NVIDIA's libraries.

Read from the image's own metadata, so that it holds for a base and for an image derived from
ours as well. Package URLs are those of github.com/package-url/purl-spec.
"""

from __future__ import annotations

import contextlib
import email.parser
import re
from collections.abc import Callable, Iterator
from typing import Any

from assembler import dpkg, elf
from assembler.layers import Content
from assembler.papers import licences
from assembler.tree import Tree, matcher

Contents = Callable[[str], Content | None]
Component = dict[str, Any]

_KINDS = {kind: place for place, kind in enumerate(("triton", "library", "python", "deb"))}

TRITON = "opt/tritonserver"
_PYTHON = ("**/*.dist-info/METADATA", "**/*.egg-info/PKG-INFO", "**/*.egg-info")
# What is read of an image's files, so that one pass over its layers keeps it.
FILES = (
    dpkg.STATUS,
    f"{dpkg.INFO}/*.list",
    "{etc,usr/lib}/os-release",
    "usr/share/doc/*/copyright",
    f"{TRITON}/TRITON_VERSION",
    f"{TRITON}/backends/**/libonnxruntime.so*",
    *_PYTHON,
)
_is_python = matcher(_PYTHON).fullmatch
_VERSIONED = re.compile(r"(lib[A-Za-z0-9_+-]+?)\.so\.(\d+(?:\.\d+)+)")
_BACKENDS = (
    *("dali", "fil", "identity", "onnxruntime", "openvino", "python"),
    *("pytorch", "repeat", "square", "tensorflow", "tensorrt"),
)

# Names and licences of libraries that no Debian package of the image owns. Sources: docs.nvidia.com
# /cuda/eula, github.com/NVIDIA/DCGM, github.com/microsoft/onnxruntime, github.com/openvinotoolkit.
_LIBRARIES = {
    "libcudart": ("CUDA Runtime", "NVIDIA", "NVIDIA CUDA Toolkit End User License Agreement"),
    "libdcgm": ("Data Center GPU Manager", "NVIDIA", "Apache-2.0"),
    "libonnxruntime": ("ONNX Runtime", "Microsoft", "MIT"),
    "libopenvino": ("OpenVINO", "Intel", "Apache-2.0"),
}


def find(tree: Tree, content: Contents, env: dict[str, str]) -> list[Component]:
    """Return the components, sorted by kind (Triton first) and name, as JSON objects.

    content: the content of the file that a path leads to, or None. env: of the image's config.
    Each has kind (deb, python, triton, library), name, version, licences, path and, where there
    is one, purl.
    """
    read = _Reader(tree, content)
    found = [*_debian(read), *_python(read), *_triton(read, env), *_libraries(read)]
    return sorted(found, key=lambda each: (_KINDS[each["kind"]], each["name"], each["path"]))


class _Reader:
    def __init__(self, tree: Tree, content: Contents) -> None:
        self.tree, self.content = tree, content

    def text(self, path: str) -> str | None:
        found = self.content(path) if self.tree.resolve(path) is not None else None
        return None if found is None else found.read().decode("utf-8", "replace")


def _debian(read: _Reader) -> Iterator[Component]:
    from packageurl import PackageURL

    system = dict(
        line.partition("=")[::2] for line in (read.text("etc/os-release") or "").splitlines()
    )
    vendor = system.get("ID", "debian").strip('"')
    distro = f"{vendor}-{system.get('VERSION_ID', '').strip(chr(34))}".rstrip("-")
    for package in dpkg.installed(read.text(dpkg.STATUS) or ""):
        qualifiers = {"arch": package.architecture, "distro": distro}
        yield {
            "kind": "deb",
            "name": package.name,
            "version": package.version,
            "supplier": package.fields.get("Maintainer", ""),
            "licences": licences.of_debian(
                read.text(f"usr/share/doc/{package.name}/copyright") or ""
            ),
            "path": f"/{dpkg.STATUS}",
            "purl": PackageURL(
                "deb", vendor, package.name, package.version, qualifiers
            ).to_string(),
        }


def _python(read: _Reader) -> Iterator[Component]:
    from packageurl import PackageURL

    for path in read.tree:
        if not _is_python(path) or read.tree[path].kind != "file":
            continue
        message = email.parser.HeaderParser().parsestr(read.text(path) or "")
        fields = {key.lower(): str(value) for key, value in message.items()}
        if not fields.get("name") or not fields.get("version"):
            continue
        name = re.sub(r"[-_.]+", "-", fields["name"]).lower()
        yield {
            "kind": "python",
            "name": fields["name"],
            "version": fields["version"],
            "licences": licences.of_python(fields, message.get_all("classifier") or []),
            "path": f"/{path}",
            "purl": PackageURL("pypi", None, name, fields["version"]).to_string(),
        }


def _triton(read: _Reader, env: dict[str, str]) -> Iterator[Component]:
    from packageurl import PackageURL

    if f"{TRITON}/bin/tritonserver" not in read.tree:
        return
    version = (read.text(f"{TRITON}/TRITON_VERSION") or "").strip()
    version = version or env.get("TRITON_SERVER_VERSION", "")
    release = env.get("NVIDIA_TRITON_SERVER_VERSION", "")

    def one(name: str, repository: str, path: str, known: bool) -> Component:
        tag = f"r{release}" if release else None
        purl = PackageURL("github", "triton-inference-server", repository, tag).to_string()
        more = {"purl": purl, "supplier": "NVIDIA"} if known else {}
        terms = ["BSD-3-Clause"] if known else []
        return {"kind": "triton", "name": name, "version": version, "licences": terms,
                "path": f"/{TRITON}/{path}", **more}  # fmt: skip

    yield one("tritonserver", "server", "bin/tritonserver", True)
    for name in read.tree.children(f"{TRITON}/backends"):
        known = name in _BACKENDS
        yield one(f"{name}_backend", f"{name}_backend", f"backends/{name}", known)


def _libraries(read: _Reader) -> Iterator[Component]:
    """Libraries of known make, and all with a version in their name, that no package owns."""
    owned = {_merged(path) for path in _owned(read)}
    for path in read.tree:
        name = path.rpartition("/")[2]
        if not name.startswith("lib") or ".so" not in name or read.tree[path].kind != "file":
            continue
        match = _VERSIONED.fullmatch(name)
        stem, version = match.groups() if match else (name.partition(".so")[0], "")
        title, supplier, terms = _LIBRARIES.get(stem, (stem, "", ""))
        if not (version or stem in _LIBRARIES) or _merged(path) in owned:
            continue
        if "/dist-packages/" in path or "/site-packages/" in path or ".libs/" in path:
            continue  # a wheel's, whose own metadata tells of it
        if not version:
            content = read.content(path)
            with contextlib.suppress(elf.BadElf):
                library = elf.read(content) if content else None
                version = (library.soname if library else "").partition(".so.")[2]
        more = {"supplier": supplier} if supplier else {}
        yield {"kind": "library", "name": title, "version": version,
               "licences": [terms] if terms else [], "path": f"/{path}", **more}  # fmt: skip


def _owned(read: _Reader) -> Iterator[str]:
    for name in read.tree.children(dpkg.INFO):
        if name.endswith(".list"):
            yield from (read.text(f"{dpkg.INFO}/{name}") or "").splitlines()


def _merged(path: str) -> str:
    """Return a path as it is where /lib is a link to /usr/lib."""
    return path.lstrip("/").removeprefix("usr/")
