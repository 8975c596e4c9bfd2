"""Whole results of earlier runs: the same inputs need no reading, not even out of the cache."""

from __future__ import annotations

import base64
import json
from dataclasses import asdict, dataclass, field, replace
from functools import cache as once
from pathlib import Path
from typing import Any

from assembler import oci, resources, zstd
from assembler.caching.cache import Cache
from assembler.destinations import Image
from assembler.oci import Descriptor, LayerBlob
from assembler.papers.record import Record
from assembler.preparation import Inputs


@dataclass(frozen=True)
class Finished:
    """image: what was made. stages: name, digest, bytes and number of files of each.

    base_size, full_size: bytes of files. record: of the image's files, and of the inputs.
    seconds: what each stage's layer took to write, by its name; nothing where it was at hand.
    """

    image: Image
    stages: list[dict[str, Any]]
    base_size: int
    full_size: int
    record: Record
    seconds: dict[str, float] = field(default_factory=dict)


def key(inputs: Inputs) -> str:
    """Return the sha256 (hex) of all that shapes a result."""
    pins = {name: asdict(pin) for name, pin in inputs.recipe.pins.items()}
    shape = [_code(), inputs.lock.document(), pins, inputs.options.compress]
    return oci.sha256(oci.canonical(shape)).removeprefix("sha256:")


@once
def _code() -> str:
    """Return a digest of this program: another version may make another image."""
    folder = Path(resources.__file__).parent
    texts = [path.read_bytes() for path in sorted(folder.rglob("*.py"))]
    return oci.sha256(b"\0".join(texts))


def find(inputs: Inputs) -> Finished | None:
    """Return what an earlier run made of the same inputs; its layers are digests without bytes."""
    data = inputs.cache.get(f"results/{key(inputs)}")
    if data is None or inputs.options.builder != "direct" or inputs.options.reads_all:
        return None
    document = json.loads(zstd.decompress(data))
    layers = (LayerBlob(each["diff_id"], _descriptor(each)) for each in document["layers"])
    image = Image(
        base64.b64decode(document["config"]),
        tuple(layers),
        inputs.options.platform,
        document["annotations"],
    )
    sizes = document["base_size"], document["full_size"]
    return Finished(image, document["stages"], *sizes, document["record"])


def with_layers(image: Image, cache: Cache, folder: Path) -> Image | None:
    """Return `image` with its layers' bytes out of `cache`, in `folder`; None where one lacks."""
    layers: list[LayerBlob] = []
    for layer in image.layers:
        path = cache.blob(layer.descriptor.digest, folder / "sha256")
        if path is None:
            return None
        layers.append(LayerBlob(layer.diff_id, layer.descriptor, path))
    return replace(image, layers=tuple(layers))


def keep(inputs: Inputs, finished: Finished) -> None:
    """Remember a result that was delivered."""
    if inputs.options.builder != "direct":
        return
    image = finished.image
    document = {
        "config": base64.b64encode(image.config).decode(),
        "layers": [{"diff_id": each.diff_id, **each.descriptor.json()} for each in image.layers],
        "annotations": dict(image.annotations),
        "stages": finished.stages,
        "base_size": finished.base_size,
        "full_size": finished.full_size,
        "record": finished.record,
    }
    data = zstd.compress(json.dumps(document).encode(), level=3)
    inputs.cache.put(f"results/{key(inputs)}", data)


def _descriptor(document: dict[str, Any]) -> Descriptor:
    return Descriptor(document["mediaType"], document["digest"], document["size"])
