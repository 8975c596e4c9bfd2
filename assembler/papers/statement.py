"""Where an image came from, as other people's tools read it: an in-toto statement, SLSA provenance.

Sources: in-toto.io/Statement/v1, slsa.dev/spec/v1.0/provenance. It has no clock times, so that
the same inputs give the same statement.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from assembler import __version__, oci
from assembler.papers.record import Record

TYPE = "application/vnd.in-toto+json"
_HOME = "https://triton-assembler.github.io"


def document(record: Record, name: str, beside: Mapping[str, bytes]) -> bytes:
    """Return the statement as JSON. name: the image's. beside: other documents that were made."""
    inputs = record["inputs"]
    choices = ("release", "platform", "backends", "keep", "builder", "numpy")
    statement = {
        "_type": "https://in-toto.io/Statement/v1",
        "subject": [{"name": name, "digest": _digest(record["image"]["digest"])}],
        "predicateType": "https://slsa.dev/provenance/v1",
        "predicate": {
            "buildDefinition": {
                "buildType": f"{_HOME}/extract/v1",
                "externalParameters": {
                    **{key: inputs[key] for key in choices},
                    "source": inputs["source"]["name"],
                    "base": inputs["base"]["name"],
                },
                "internalParameters": {"mtime": inputs["mtime"], "formats": inputs["formats"]},
                "resolvedDependencies": _dependencies(inputs),
            },
            "runDetails": {
                "builder": {
                    "id": f"{_HOME}/assembler",
                    "version": {"assembler": __version__},
                },
                "byproducts": [
                    {"name": key, "digest": _digest(oci.sha256(data))}
                    for key, data in sorted(beside.items())
                ],
            },
        },
    }
    return (json.dumps(statement, indent=1, sort_keys=True, ensure_ascii=False) + "\n").encode()


def _dependencies(inputs: dict[str, Any]) -> list[dict[str, Any]]:
    found = []
    for key in ("source", "base"):
        image = inputs[key]
        found.append(
            {
                "name": key,
                "uri": _uri(image["name"], image["digest"]),
                # An Engine and a `docker save` archive know no manifest: the config is named then.
                "digest": _digest(image["digest"] or image["config"]),
                "annotations": {"config": image["config"]},
            }
        )
    for name, pin in sorted(inputs["wheels"].items()):
        found.append(
            {
                "name": pin["file"],
                "uri": f"pkg:pypi/{name}@{pin['version']}",
                "digest": {"sha256": pin["sha256"]},
            }
        )
    return found + [
        {"name": name, "digest": {"sha256": digest}}
        for name, digest in sorted(inputs["files"].items())
    ]


def _uri(name: str, digest: str) -> str:
    """Return an image's address: of one in a registry, its package URL (purl-spec, type oci)."""
    transport = name.partition(":")[0]
    if transport in ("docker-daemon", "docker-archive", "oci-archive", "oci") or not digest:
        return name
    path = name.partition("@")[0]
    repository, colon, tag = path.rpartition(":")
    if "/" in tag or not colon:
        repository, tag = path, ""
    ending = f"&tag={tag}" if tag else ""
    last = repository.rpartition("/")[2]
    return f"pkg:oci/{last}@{digest.replace(':', '%3A')}?repository_url={repository}{ending}"


def _digest(digest: str) -> dict[str, str]:
    return {"sha256": digest.removeprefix("sha256:")}
