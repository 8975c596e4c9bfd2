"""Whole results of earlier runs: the same inputs need no reading, not even out of the cache."""

from __future__ import annotations

import base64
import json
from dataclasses import dataclass
from functools import cache as once
from pathlib import Path
from typing import Any

from assembler import layerfile, oci, resources
from assembler.cache import Cache
from assembler.destinations import Artifact, Image
from assembler.oci import Descriptor, LayerBlob
from assembler.preparation import Inputs
from assembler.sources import Source


@dataclass(frozen=True)
class Finished:
    """image: what was made. stages: name, digest, bytes and number of files of each.

    base_size, full_size: bytes of files. dropped: number and bytes of files, by reason.
    """

    image: Image
    stages: list[dict[str, Any]]
    base_size: int
    full_size: int
    dropped: dict[str, tuple[int, int]]


def key(inputs: Inputs) -> str:
    """Return the sha256 (hex) of all that shapes a result."""
    recipe, options = inputs.recipe, inputs.options

    def image(source: Source) -> list[object]:
        return [source.reference, source.digest, oci.sha256(source.config), source.diff_ids]

    shape = [
        _code(),
        layerfile.FORM,
        image(inputs.full),
        image(inputs.base),
        str(options.platform),
        recipe.release,
        repr(recipe.stages),
        repr(recipe.patches),
        recipe.keep,
        recipe.numpy,
        recipe.mtime,
        inputs.template,
        options.compress,
    ]
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
    if data is None or inputs.options.builder != "direct" or inputs.options.read_all:
        return None
    document = json.loads(data)
    layers = (LayerBlob(each["diff_id"], _descriptor(each)) for each in document["layers"])
    artifacts = (
        Artifact(each["artifactType"], each["mediaType"], base64.b64decode(each["data"]))
        for each in document["artifacts"]
    )
    image = Image(
        base64.b64decode(document["config"]),
        tuple(layers),
        inputs.options.platform,
        document["annotations"],
        tuple(artifacts),
    )
    dropped = {reason: (count, size) for reason, (count, size) in document["dropped"].items()}
    return Finished(
        image, document["stages"], document["base_size"], document["full_size"], dropped
    )


def with_layers(image: Image, cache: Cache, folder: Path) -> Image | None:
    """Return `image` with its layers' bytes out of `cache`, in `folder`; None where one lacks."""
    layers: list[LayerBlob] = []
    for layer in image.layers:
        path = cache.blob(layer.descriptor.digest, folder / "sha256")
        if path is None:
            return None
        layers.append(LayerBlob(layer.diff_id, layer.descriptor, path))
    return Image(image.config, tuple(layers), image.platform, image.annotations, image.artifacts)


def keep(inputs: Inputs, finished: Finished) -> None:
    """Remember a result that was delivered."""
    if inputs.options.builder != "direct":
        return
    image = finished.image
    document = {
        "config": base64.b64encode(image.config).decode(),
        "layers": [{"diff_id": each.diff_id, **each.descriptor.json()} for each in image.layers],
        "annotations": dict(image.annotations),
        "artifacts": [
            {
                "artifactType": each.artifact_type,
                "mediaType": each.media_type,
                "data": base64.b64encode(each.data).decode(),
            }
            for each in image.artifacts
        ],
        "stages": finished.stages,
        "base_size": finished.base_size,
        "full_size": finished.full_size,
        "dropped": finished.dropped,
    }
    inputs.cache.put(f"results/{key(inputs)}", json.dumps(document).encode())


def _descriptor(document: dict[str, Any]) -> Descriptor:
    return Descriptor(document["mediaType"], document["digest"], document["size"])
