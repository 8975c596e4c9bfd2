"""Libraries: every soname that a file of the image needs is found, whole and new enough."""

from __future__ import annotations

import posixpath
import re
from collections import defaultdict
from collections.abc import Callable, Iterator
from functools import cached_property

from assembler.closure import highest
from assembler.verify.checks import Skipped, require
from assembler.verify.files import SERVER, STUB, TOP, Files
from assembler.verify.loader import Loader, Need

# Of the GPU's driver: the container toolkit mounts them, and programs do without.
_DRIVER = re.compile(r"lib(cuda|nvidia-\w+|nvcuvid|nvoptix|cudadebugger|EGL_nvidia|GLX_nvidia)\.so")
_GPU = re.compile(r"lib(cublas|cudnn|nvinfer|cufft)\.so")
_PROVIDER = re.compile(r"libonnxruntime_providers_(\w+)\.so")
# Where images for GPUs let LD_LIBRARY_PATH point, whatever is mounted there in the end.
_MOUNTED = re.compile(r"usr/local/(cuda|nvidia)|opt/hpcx|usr/local/(mpi|ucx)")


class Libraries:
    """The checks of this module, on what was found once."""

    def __init__(self, files: Files) -> None:
        self.files = files
        self.loader = Loader(files)

    def checks(self) -> list[tuple[str, Callable[[], str]]]:
        """Return name and check of each."""
        return [
            ("elf-files", self.whole),
            ("closure", self.closure),
            ("soname-links", self.soname_links),
            ("library-versions", self.versions),
            ("ld-library-path", self.library_path),
            ("providers", self.providers),
        ]

    # -- what is needed -----------------------------------------------------------------

    @cached_property
    def elves(self) -> list[str]:
        return [path for path, _ in self.files.elves()]

    @cached_property
    def needs(self) -> list[Need]:
        """What all files need, each asked in the process that it is loaded into."""
        files, loader = self.files, self.loader
        python = files.tree.resolve(files.which("python3") or "usr/bin/python3")
        stub = files.tree.resolve(STUB)
        found: list[Need] = []
        have = {}
        for name, path in (("server", files.tree.resolve(SERVER)), ("python", stub or python)):
            needs = loader.load(path) if path else []
            have[name] = {need.soname: need.provider for need in needs if need.provider}
            found += needs
        asked = {need.path for need in found}
        rest = [path for path in self.elves if path not in asked]
        # Executables first: what they load needs no look of its own.
        rest.sort(key=lambda p: (not _executable(files, p), "/providers" in p, p))
        for path in rest:
            if path in asked:
                continue
            plugin = path.startswith(f"{TOP}/") and not _executable(files, path)
            module = "python3" in path and not _executable(files, path)
            process = "server" if plugin else "python" if module else ""
            needs = loader.load(path, have.get(process))
            asked |= {need.path for need in needs}
            found += needs
        return list(dict.fromkeys(found))

    @cached_property
    def missing(self) -> dict[str, list[str]]:
        """Files by the soname that is not found for them."""
        found: dict[str, list[str]] = defaultdict(list)
        answered = {(need.path, need.soname) for need in self.needs if need.provider}
        for need in self.needs:
            if need.provider is None and (need.path, need.soname) not in answered:
                if _DRIVER.match(need.soname) or self._preloaded(need) or self._excused(need):
                    continue
                found[need.soname].append(need.path)
        return found

    def _preloaded(self, need: Need) -> bool:
        """Python packages load libraries of their own before the modules that need them."""
        if "-packages/" not in need.path or need.soname not in self.by_name:
            return False
        return any("-packages/" in path for path in self.by_name[need.soname])

    def _excused(self, need: Need) -> bool:
        """In a full image for GPUs, much that Triton never loads is incomplete."""
        return self.is_gpu and not need.path.startswith(("opt/tritonserver/", "usr/bin/"))

    @cached_property
    def is_gpu(self) -> bool:
        return any(_GPU.match(name) for name in self.by_name)

    @cached_property
    def by_name(self) -> dict[str, list[str]]:
        """Paths, links among them, by name of what may be a library."""
        found: dict[str, list[str]] = defaultdict(list)
        for path in self.files.tree:
            name = path.rpartition("/")[2]
            if ".so" in name and "/stubs/" not in path and self.files.kind(path) == "file":
                found[name].append(path)
        return found

    @cached_property
    def by_soname(self) -> dict[str, list[str]]:
        """Files by the soname that they say they have."""
        found: dict[str, list[str]] = defaultdict(list)
        for path, each in self.files.elves():
            if each.soname:
                found[each.soname].append(path)
        return found

    def _sort_of(self, soname: str, users: list[str]) -> str:
        """Return the name of the check that a missing soname belongs to."""
        if all(_PROVIDER.fullmatch(posixpath.basename(path)) for path in users):
            return "providers"
        if self.by_name.get(soname):
            return "ld-library-path"
        return "soname-links" if self.by_soname.get(soname) else "closure"

    def _missing(self, sort: str) -> Iterator[tuple[str, str]]:
        for soname, users in sorted(self.missing.items()):
            if self._sort_of(soname, users) == sort:
                more = f" (and {len(users) - 1} more)" if len(users) > 1 else ""
                yield soname, f"/{users[0]}{more} needs {soname}"

    # -- checks -------------------------------------------------------------------------

    def whole(self) -> str:
        """No ELF file is truncated or damaged."""
        count = len(self.elves)
        damaged = self.files.damaged.items()
        return require(
            (f"/{path} is a damaged ELF file: {why}" for path, why in sorted(damaged)),
            f"{count} ELF files are whole",
        )

    def closure(self) -> str:
        """Every soname is in the image, and so is every loader."""
        problems = [f"{text}, which is nowhere" for _, text in self._missing("closure")]
        for path, each in self.files.elves():
            if each.interpreter and self.files.kind(each.interpreter) != "file":
                problems.append(f"/{path} wants the loader {each.interpreter}, which is missing")
        sonames = {need.soname for need in self.needs}
        return require(problems, f"{len(sonames)} sonames that {len(self.elves)} files need")

    def soname_links(self) -> str:
        """A library is there under the name by which it is asked for."""
        return require(
            (
                f"{text}: /{self.by_soname[soname][0]} is that, but no link of that name leads to "
                "it (ldconfig makes them)"
                for soname, text in self._missing("soname-links")
            ),
            "libraries are found by their sonames",
        )

    def versions(self) -> str:
        """Every symbol version asked for is offered."""
        return require(self._too_old(self.needs), "symbol versions are offered")

    def _too_old(self, needs: list[Need]) -> Iterator[str]:
        for need in needs:
            user = self.files.elf_at(need.path)
            offer = self.files.elf_at(need.provider) if need.provider else None
            if user is None or offer is None or not offer.offers:
                continue
            for version in sorted(set(user.versions.get(need.soname, ())) - offer.offers):
                yield (
                    f"/{need.path} needs {version} of {need.soname}; /{need.provider} goes up to "
                    f"{highest(offer.offers, version)}"
                )

    def library_path(self) -> str:
        """LD_LIBRARY_PATH has what is needed, and hides nothing by something that does not fit."""
        value = self.files.env().get("LD_LIBRARY_PATH", "")
        problems = [
            f"{text}: /{self.by_name[soname][0]} is that, but neither the loader's folders nor "
            f"LD_LIBRARY_PATH={value} have {posixpath.dirname('/' + self.by_name[soname][0])}"
            for soname, text in self._missing("ld-library-path")
        ]
        for entry in value.split(":") if value else ():
            where = entry.strip("/")
            if not entry.startswith("/"):
                problems.append(
                    f"LD_LIBRARY_PATH={value} has {entry!r}: relative to the working folder"
                )
            elif not (self.is_gpu or _MOUNTED.match(where) or self.files.kind(where) == "dir"):
                problems.append(f"LD_LIBRARY_PATH={value} names {entry}, which is no folder")
        if value:
            problems += self._hidden(value)
        return require(problems, f"LD_LIBRARY_PATH={value}" if value else "no LD_LIBRARY_PATH")

    def _hidden(self, value: str) -> Iterator[str]:
        """Yield what is too old only because LD_LIBRARY_PATH comes before the system's folders."""
        old = {(need.path, need.soname): need.provider for need in self.needs}
        for path in {need.path for need in self.needs if _executable(self.files, need.path)}:
            for need in Loader(self.files, "").load(path):
                chosen = old.get((need.path, need.soname))
                if need.provider is None or chosen in (None, need.provider):
                    continue
                now = Need(need.path, need.soname, chosen)
                if any(self._too_old([now])) or chosen in self.files.damaged:
                    yield (
                        f"LD_LIBRARY_PATH={value} makes /{need.path} load /{chosen}, which does "
                        f"not fit, in the place of /{need.provider}"
                    )

    def providers(self) -> str:
        """Each provider of ONNX Runtime is there with all that it opens, or not at all."""
        found: dict[str, str] = {}
        for path in self.files.tree:
            match = _PROVIDER.fullmatch(path.rpartition("/")[2])
            if match and self.files.kind(path) == "file":
                found[match[1]] = path
        if not found:
            raise Skipped("no providers beside the CPU's own")
        problems = [
            f"{text}, which is nowhere: the provider is left half"
            for soname, text in self._missing("providers")
            if not self._beside(soname)
        ]
        if found.keys() - {"shared"} and "shared" not in found:
            one = found[min(found)]
            problems.append(f"/{one} needs libonnxruntime_providers_shared.so beside it")
        if "openvino" in found and not self._beside("libopenvino_intel_cpu_plugin.so"):
            problems.append(
                f"/{found['openvino']} opens libopenvino_intel_cpu_plugin.so, which is nowhere"
            )
        return require(problems, f"whole: {', '.join(sorted(found))}")

    def _beside(self, soname: str) -> bool:
        return any(name.startswith(soname) for name in self.by_name)


def _executable(files: Files, path: str) -> bool:
    found = files.elf_at(path)
    return bool(found and found.interpreter) and ".so" not in path.rpartition("/")[2]
