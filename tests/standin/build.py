"""Both images as OCI layouts: the full one over the base, layer by layer in upstream's order."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import tarfile
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from tests.standin import ballast, packages, server, tars
from tests.standin.blobs import Blobs, Fill, Layer
from tests.standin.images import write_image
from tests.standin.lower import ENTRY, Lower
from tests.standin.settings import BASE, BASE_HISTORY, FULL, FULL_HISTORY, RELEASE
from tests.standin.store import Store, locked
from tests.standin.wheels import Wheels

MB = 1_000_000
HERE = Path(__file__).parent
TAG, BASE_TAG = f"{RELEASE}-py3", "22.04"
_LEAST_BALLAST = 12 * MB  # so that there is something to leave out at any size


@dataclass(frozen=True)
class Standin:
    """Layout folders of the two images, and the digests that their tags name.

    layers: of the full image, each with what made it, digest, bytes packed and unpacked.
    """

    full: Path
    base: Path
    full_digest: str
    base_digest: str
    layers: tuple[dict[str, Any], ...] = ()
    tag: str = TAG


def build(work: Path, size: int = 300 * MB) -> Standin:
    """Return both images, made under `work` where they are not there yet.

    size: about how many bytes the full one has unpacked. Under 500 MB, which is what its real
    parts weigh, it changes nothing.
    """
    with locked(work):
        # Another recipe makes other images: what an older one left is not taken for them.
        place = work / _recipe()
        full, base = place / f"full-{size // MB}", place / "base-image"
        marker = place / f"full-{size // MB}.json"
        if not marker.exists():
            place.mkdir(exist_ok=True)
            made = _write(Store(work / "parts"), full, base, size)
            marker.write_text(json.dumps(made))
        return Standin(full, base, **json.loads(marker.read_text()))


def _recipe() -> str:
    text = hashlib.sha256()
    for path in sorted(HERE.rglob("*")):
        if path.is_file() and "__pycache__" not in path.parts and path.name != "services.py":
            text.update(path.read_bytes())
    return text.hexdigest()[:12]


def _write(store: Store, full: Path, base: Path, size: int) -> dict[str, Any]:
    shutil.rmtree(full, ignore_errors=True)
    wheels = Wheels(store)
    lower = Lower(store, wheels)
    weight = max(size - _real(lower, wheels), _LEAST_BALLAST)
    blobs = Blobs(full)
    bottom = blobs.layer(lambda tar: tars.add_tree(tar, lower.base))
    layers = [bottom, *(blobs.layer(fill) for fill in _fills(lower, wheels, weight))]
    digest = write_image(full, layers, FULL, FULL_HISTORY, TAG, index=True)
    names = [text for text, made in FULL_HISTORY if made]
    return {
        "full_digest": digest,
        "base_digest": _write_base(base, bottom, blobs),
        "layers": [
            {"made_by": name, **asdict(each)} for name, each in zip(names, layers, strict=True)
        ],
    }


def _write_base(base: Path, layer: Layer, blobs: Blobs) -> str:
    """Write the base beside the full image of the first size, whose layer it shares."""
    blob = layer.digest.removeprefix("sha256:")
    target = Blobs(base).folder / blob
    if not target.exists():
        os.link(blobs.folder / blob, target)
    return write_image(base, [layer], BASE, BASE_HISTORY, BASE_TAG, index=False)


def _fills(lower: Lower, wheels: Wheels, weight: int) -> list[Fill]:
    """Return what fills each layer above the base. weight: bytes of ballast, shared out as in
    the official image: three fifths in NVIDIA's packages, three tenths in the server's layer.
    """

    def tree(name: str) -> Fill:
        return lambda tar: tars.add_tree(tar, lower.layers[name])

    def heavy(name: str, part: int) -> Fill:
        share = weight * part // 100
        return lambda tar: packages.fill(tar, lower.layers[name], lower.packages[name], share)

    def common(tar: tarfile.TarFile) -> None:
        tars.add_tree(tar, lower.layers["common"])
        ballast.add(tar, "usr/lib/llvm-14/lib/libclang-cpp.so.14", weight * 5 // 100)

    # As Docker writes them: with the folders above a file, which else would be made anew.
    def entry(tar: tarfile.TarFile) -> None:
        for folder in ("opt", "opt/nvidia", "opt/nvidia/entrypoint.d"):
            tars.add_folder(tar, folder)
        for path in sorted(ENTRY.glob("[0-9]*")):
            tars.add(tar, f"opt/nvidia/entrypoint.d/{path.name}", path.read_bytes(), mode=0o755)

    def licence(tar: tarfile.TarFile) -> None:
        name = f"{server.TOP}/NVIDIA_Deep_Learning_Container_License.pdf"
        tars.add_folder(tar, "opt")
        tars.add_folder(tar, server.TOP, owner=server.OWNER)
        ballast.add(tar, name, 100_000, owner=server.OWNER)

    def serve(tar: tarfile.TarFile) -> None:
        program = (ENTRY / "serve").read_bytes()
        for folder in ("usr", "usr/bin"):
            tars.add_folder(tar, folder)
        tars.add(tar, "usr/bin/serve", program, mode=0o755, owner=server.OWNER)

    upper: list[Callable[[tarfile.TarFile], None]] = [
        entry, lambda tar: server.fill(tar, wheels, weight * 30 // 100), licence, serve,
    ]  # fmt: skip
    return [
        heavy("cuda", 25), heavy("libraries", 35), tree("entry"), tree("user"), common,
        heavy("dcgm", 5), tree("compat"), tree("python"), tree("empty"), *upper,
    ]  # fmt: skip


def _real(lower: Lower, wheels: Wheels) -> int:
    """Return how many bytes the image has without its ballast, about."""
    folders = [lower.base, *lower.layers.values(), wheels.onnxruntime]
    files = [path for folder in folders for path in folder.rglob("*") if not path.is_symlink()]
    files += [wheels.onnxruntime_library, wheels.triton / "bin/tritonserver"]
    files += [wheels.triton / "lib/libtritonserver.so"]
    return sum(path.stat().st_size for path in files if path.is_file())
