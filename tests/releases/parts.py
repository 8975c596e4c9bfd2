"""The parts of any release on any machine: packages, and files below /opt/tritonserver.

Sources: upstream's build.py of each release's branch and what readelf says of NVIDIA's binaries
(the lists of NEEDED); Ubuntu's package names. ELF files say to the loader what the real ones say.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from assembler import releases
from tests.unit.building import elf

OPENVINO = ("libonnxruntime_providers_openvino.so", "libopenvino.so", "libtbb.so.12")


@dataclass(frozen=True)
class Machine:
    """A processor: in an image config, in paths, in ELF headers."""

    architecture: str
    triplet: str
    number: int
    loader: str
    cuda: str

    @property
    def lib(self) -> str:
        return f"usr/lib/{self.triplet}"


AMD64 = Machine("amd64", "x86_64-linux-gnu", 0x3E, "lib64/ld-linux-x86-64.so.2", "x86_64-linux")
ARM64 = Machine("arm64", "aarch64-linux-gnu", 0xB7, "lib/ld-linux-aarch64.so.1", "sbsa-linux")


@dataclass(frozen=True)
class Ubuntu:
    """What differs between them. glibc, glibcxx: the highest versions offered.

    names: packages by the library that they own; t64: how names end since 24.04.
    """

    glibc: str
    glibcxx: str
    icu: str
    ssl: str
    in_base: tuple[str, ...] = ()
    t64: str = ""


UBUNTU = {
    "20.04": Ubuntu("2.31", "3.4.28", "66", "1.1"),
    "22.04": Ubuntu("2.35", "3.4.30", "70", "3", ("ssl",)),
    "24.04": Ubuntu("2.39", "3.4.33", "74", "3", ("ssl",), "t64"),
}


@dataclass(frozen=True)
class Package:
    """A Debian package: files by path, links by path."""

    name: str
    files: dict[str, bytes] = field(default_factory=dict)
    links: dict[str, str] = field(default_factory=dict)
    depends: str = "libc6"
    provides: str = ""


class Release:
    """The parts of one release on one machine."""

    def __init__(self, name: str, machine: Machine) -> None:
        self.name, self.machine = name, machine
        self.row = releases.table()[name]
        self.ubuntu = UBUNTU[self.row.ubuntu]
        self.lib = machine.lib

    # -- sonames that change with the release ----------------------------------------------

    @property
    def cudart(self) -> tuple[str, str]:
        """Soname and file name."""
        if self.name < "23.01":
            return "libcudart.so.11.0", "libcudart.so.11.8.89"
        if self.name < "25.08":
            return "libcudart.so.12", "libcudart.so.12.4.127"
        return "libcudart.so.13", "libcudart.so.13.0.96"

    @property
    def dcgm(self) -> str:
        """Soname."""
        return f"libdcgm.so.{2 if self.name < '23.11' else 3 if self.name < '25.08' else 4}"

    @property
    def onnxruntime(self) -> str:
        """Soname: libonnxruntime.so.1 since ONNX Runtime 1.19, so since 24.08."""
        return f"libonnxruntime.so.{'1' if self.name >= '24.08' else self.row.onnxruntime}"

    @property
    def boost(self) -> bool:
        """Whether libtritonserver needs Boost 1.80, installed into /usr and of no package."""
        return "23.11" <= self.name <= "24.01"

    def needs(self) -> dict[str, list[str]]:
        """NEEDED of each file, but libc and libstdc++."""
        ssl = [f"libssl.so.{self.ubuntu.ssl}", f"libcrypto.so.{self.ubuntu.ssl}"]
        cudart, old = self.cudart[0], self.row.ubuntu == "20.04"
        server = [cudart, "libdcgm.so." + self.dcgm[-1], "libnuma.so.1", "libcurl.so.4"]
        if old:
            server += ["libre2.so.5", "libuuid.so.1", ssl[1]]
        else:
            server += ["libz.so.1", ssl[0], "libxml2.so.2"]
            server += ["libre2.so.9"] * (self.name < "24.01")
            server += ["libboost_filesystem.so.1.80.0"] * self.boost
            server += [ssl[1]] * (self.name >= "26.06")
        main = [cudart, "libb64.so.0d", "libz.so.1", "libtritonserver.so", *ssl]
        return {
            "bin/tritonserver": main + ["libre2.so.5"] * old,
            "lib/libtritonserver.so": server,
            "backends/python/libtriton_python.so": [
                "libtritonserver.so", "libarchive.so.13", cudart,
            ],
            "backends/python/triton_python_backend_stub": [
                cudart, f"libpython{self.row.python}.so.1.0",
            ],
            "backends/onnxruntime/libtriton_onnxruntime.so": [
                "libtritonserver.so", self.onnxruntime, cudart,
            ],
        }  # fmt: skip

    # -- files ----------------------------------------------------------------------------

    def elf(self, soname: str, *needed: str, program: bool = False, runpath: str = "") -> bytes:
        """An ELF file that asks for this Ubuntu's own glibc and libstdc++."""
        return elf(
            soname=soname,
            needed=[*needed, "libstdc++.so.6", "libc.so.6"],
            versions={
                "libc.so.6": ["GLIBC_2.17", f"GLIBC_{self.ubuntu.glibc}"],
                "libstdc++.so.6": [f"GLIBCXX_{self.ubuntu.glibcxx}"],
            },
            interpreter=f"/{self.machine.loader}" if program else "",
            runpath=runpath,
            machine=self.machine.number,
        )

    def library(self, package: str, soname: str, *needed: str, depends: str = "") -> Package:
        """A package of one library."""
        files = {f"{self.lib}/{soname}": self.elf(soname, *needed)}
        return Package(package, files, depends=", ".join(filter(None, ("libc6", depends))))

    def base_packages(self) -> list[Package]:
        """What the ubuntu image itself has."""
        plain = {"machine": self.machine.number}
        versions = ["GLIBC_2.17", f"GLIBC_{self.ubuntu.glibc}"]
        loader = self.machine.loader.rpartition("/")[2]
        found = [
            Package("libc6", {
                f"{self.lib}/libc.so.6": elf(soname="libc.so.6", offers=versions, **plain),
                f"{self.lib}/{loader}": elf(soname=loader, **plain),
            }, {f"usr/{self.machine.loader}": f"/{self.lib}/{loader}"}),
            Package("libstdc++6", {
                f"{self.lib}/libstdc++.so.6": elf(
                    soname="libstdc++.so.6", offers=[f"GLIBCXX_{self.ubuntu.glibcxx}"], **plain
                ),
            }),
            self.library("zlib1g", "libz.so.1"),
            self.library("libuuid1", "libuuid.so.1"),
            Package("bash", {"usr/bin/bash": self.elf("", program=True)}),
            Package("dash", {"usr/bin/sh": self.elf("", program=True)}),
        ]  # fmt: skip
        return found + ([self.ssl()] if "ssl" in self.ubuntu.in_base else [])

    def ssl(self) -> Package:
        version, t64 = self.ubuntu.ssl, self.ubuntu.t64
        names = [f"{name}.so.{version}" for name in ("libssl", "libcrypto")]
        files = {f"{self.lib}/{name}": self.elf(name) for name in names}
        return Package(f"libssl{version}{t64}", files, provides=f"libssl{version}" if t64 else "")

    def packages(self) -> list[Package]:
        """What the full image has beyond its base."""
        t64, icu = self.ubuntu.t64, self.ubuntu.icu
        cudart, file = self.cudart
        version = ".".join(file.partition(".so.")[2].split(".")[:2])
        cuda = f"usr/local/cuda-{version}/targets/{self.machine.cuda}/lib"
        dashed = version.replace(".", "-")
        found = [
            Package(f"cuda-cudart-{dashed}", {f"{cuda}/{file}": self.elf(cudart)},
                    {f"{cuda}/{cudart}": file, "usr/local/cuda": f"cuda-{version}"},
                    "cuda-toolkit-config-common"),
            Package("cuda-toolkit-config-common", {
                "etc/ld.so.conf.d/000_cuda.conf":
                    f"/usr/local/cuda/targets/{self.machine.cuda}/lib\n".encode(),
            }),
            self._dcgm(),
            self.library("libb64-0d", "libb64.so.0d"),
            self.library("libnuma1", "libnuma.so.1"),
            self.library(f"libcurl4{t64}", "libcurl.so.4", depends=f"libssl{self.ubuntu.ssl}{t64}"),
            self.library("libxml2", "libxml2.so.2", f"libicudata.so.{icu}", depends=f"libicu{icu}"),
            self.library(f"libicu{icu}", f"libicudata.so.{icu}"),
            self.library(f"libarchive13{t64}", "libarchive.so.13", "libxml2.so.2",
                         depends="libxml2"),
            Package("ca-certificates", {"etc/ca-certificates.conf": b"x\n"}),
            *self._python(),
        ]  # fmt: skip
        if "ssl" not in self.ubuntu.in_base:
            found.append(self.ssl())
        if self.name < "24.11":
            re2 = "5" if self.row.ubuntu == "20.04" else "9"
            found.append(self.library(f"libre2-{re2}", f"libre2.so.{re2}"))
        return found

    def _dcgm(self) -> Package:
        major = self.dcgm[-1]
        name = "datacenter-gpu-manager" + ("-4-core" if major == "4" else "")
        file = f"libdcgm.so.{major}.3.6"
        proxy = f"{self.lib}/libdcgm_cublas_proxy12.so.{major}.3.6"
        files = {f"{self.lib}/{file}": self.elf(self.dcgm), proxy: self.elf("", "libcublas.so.12")}
        return Package(name, files, {f"{self.lib}/{self.dcgm}": file})

    def _python(self) -> list[Package]:
        version, t64 = self.row.python, self.ubuntu.t64
        library = f"libpython{version}.so.1.0"
        std = f"usr/lib/python{version}"
        stdlib = Package(f"libpython{version}-stdlib", {
            f"{std}/os.py": b"# os\n", f"{std}/test/test_os.py": b"# test\n",
            **({f"{std}/EXTERNALLY-MANAGED": b"[externally-managed]\n"} if t64 else {}),
        })  # fmt: skip
        return [
            Package("python3", {"usr/share/python3/debian_defaults": b"x\n"},
                    {"usr/bin/python3": f"python{version}"}, f"python{version}, libpython3-stdlib"),
            Package("libpython3-stdlib", depends=f"libpython{version}-stdlib"),
            Package(f"python{version}", {f"usr/bin/python{version}": self.elf("", program=True)},
                    depends=f"libpython{version}-stdlib"),
            stdlib,
            Package(f"libpython{version}{t64}", {f"{self.lib}/{library}": self.elf(library)},
                    depends=f"libpython{version}-stdlib"),
            Package("python3-pip", {
                "usr/bin/pip": b"#!/usr/bin/python3\n",
                "usr/lib/python3/dist-packages/pip/__init__.py": b"# Debian's\n",
            }, depends="ca-certificates, python3-setuptools, python3:any"),
            Package("python3-setuptools",
                    {"usr/lib/python3/dist-packages/setuptools/__init__.py": b"# Debian's\n"},
                    depends="python3:any"),
        ]  # fmt: skip

    def server(self) -> dict[str, bytes | str]:
        """What lies below /opt/tritonserver; a text is a link."""
        found: dict[str, bytes | str] = {
            path: self.elf(
                "libtritonserver.so" if path.startswith("lib/") else "",
                *needed,
                program=path.endswith(("/tritonserver", "_stub")),
                runpath={"b": "${ORIGIN}/../lib", "l": "${ORIGIN}:${ORIGIN}/pytorch"}[path[0]]
                if "backends" not in path else "$ORIGIN" if "onnx" in path else "",
            )
            for path, needed in self.needs().items()
        }  # fmt: skip
        here = "backends/onnxruntime"
        found[f"{here}/libonnxruntime.so"] = self.elf(self.onnxruntime)
        if self.name >= "24.08":
            found[f"{here}/libonnxruntime.so.1"] = "libonnxruntime.so"
        found[f"{here}/libonnxruntime.so.{self.row.onnxruntime}"] = (
            "libonnxruntime.so.1" if self.name >= "24.08" else "libonnxruntime.so"
        )
        found[f"{here}/libonnxruntime_providers_shared.so"] = self.elf("")
        for name in ("cuda", "tensorrt"):
            found[f"{here}/libonnxruntime_providers_{name}.so"] = self.elf("", "libcublasLt.so.12")
        if self.machine is AMD64:
            found |= {f"{here}/{name}": self.elf(name) for name in OPENVINO}
        plugin = self.elf("", "libtritonserver.so")
        found |= {
            "TRITON_VERSION": f"{self.row.triton}\n".encode(),
            "LICENSE": b"BSD\n",
            "backends/python/triton_python_backend_utils.py": self._utils(),
            "repoagents/checksum/libtritonrepoagent_checksum.so": plugin,
        }  # fmt: skip
        if self.name >= "23.03":
            found["caches/local/libtritoncache_local.so"] = plugin
        wheel = f"python/{{}}-{self.row.triton}-py3-none-any.whl"
        if self.name >= "23.09":
            found[wheel.format("tritonserver")] = b"zip\n"
        if self.name >= "24.11":
            found[wheel.format("tritonfrontend")] = b"zip\n"
        if self.name >= "24.12":
            found["python/openai/openai_frontend/main.py"] = b"# openai\n"
        return found

    def _utils(self) -> bytes:
        """Blank lines, and from the line on that the guard is put behind, what it is put behind."""
        formatted = self.name >= "23.07"
        before = "\n" * 29 + "import numpy as np\n\n"
        rest = (
            """TRITON_STRING_TO_NUMPY = {\n    "TYPE_BOOL": bool,\n    "TYPE_UINT8": np.uint8,\n}"""
        )
        if not formatted:
            before = "\n" * 27 + "import struct\nimport json\n\n"
            rest = rest.replace('"', "'")
        return f"{before}{rest}\n".encode()
