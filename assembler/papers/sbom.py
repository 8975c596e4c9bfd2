"""The software bill of materials of an image: CycloneDX 1.6, out of its record.

The same record gives the same bytes: the serial number is made of the image's digest, the time
is the one that all files have. Source: cyclonedx.org/docs/1.6/json.
"""

from __future__ import annotations

import re
import uuid
from datetime import datetime, timezone
from typing import TYPE_CHECKING, Any

from assembler import __version__
from assembler.papers.record import Record

if TYPE_CHECKING:
    from cyclonedx.model.component import Component

TYPE = "application/vnd.cyclonedx+json"


def load() -> None:
    """Import what `document` needs, while something else is waited for."""
    import cyclonedx.model.component
    import cyclonedx.model.contact
    import cyclonedx.model.license
    import cyclonedx.model.tool
    import cyclonedx.output.json
    import cyclonedx.spdx  # noqa: F401


def document(record: Record) -> bytes:
    """Return the bill of materials as JSON."""
    from cyclonedx.model import Property
    from cyclonedx.model.bom import Bom, BomMetaData
    from cyclonedx.model.component import Component, ComponentType
    from cyclonedx.model.tool import Tool
    from cyclonedx.output.json import JsonV1Dot6

    digest = str(record["image"]["digest"])
    image = Component(
        name="tritonserver-cpu",
        version=digest,
        type=ComponentType.CONTAINER,
        bom_ref=digest,
        description=f"Triton Inference Server {record['release']}, CPU only",
        properties=[
            Property(name="triton-assembler:image-id", value=record["image"]["id"]),
            Property(name="triton-assembler:source", value=_named(record["source"])),
            Property(name="triton-assembler:base", value=_named(record["base"])),
        ],
    )
    parts = {part.bom_ref.value: part for each in record["components"] if (part := _part(each))}
    bom = Bom(
        serial_number=uuid.uuid5(uuid.NAMESPACE_URL, f"{TYPE}:{digest}"),
        components=parts.values(),
        metadata=BomMetaData(
            component=image,
            timestamp=datetime.fromtimestamp(record["inputs"]["mtime"], timezone.utc),
        ),
    )
    bom.metadata.tools.tools.add(Tool(name="assembler", version=__version__))
    bom.register_dependency(image, parts.values())
    return (JsonV1Dot6(bom).output_as_string(indent=1) + "\n").encode()


def _named(image: dict[str, str]) -> str:
    return f"{image['name'].partition('@')[0]}@{image['digest'] or image['config']}"


def _part(each: dict[str, Any]) -> Component:
    from cyclonedx.model import Property
    from cyclonedx.model.component import Component, ComponentType
    from cyclonedx.model.contact import OrganizationalEntity
    from packageurl import PackageURL

    application = each["name"] == "tritonserver"
    supplier = each.get("supplier", "").partition(" <")[0]
    purl = each.get("purl")
    return Component(
        name=each["name"],
        version=each["version"] or None,
        type=ComponentType.APPLICATION if application else ComponentType.LIBRARY,
        # One name and version may lie in several folders.
        bom_ref=f"{purl or each['name']}#{each['path']}",
        purl=PackageURL.from_string(purl) if purl else None,
        licenses=_licences(each["licences"]),
        supplier=OrganizationalEntity(name=supplier) if supplier else None,
        properties=[
            Property(name="triton-assembler:path", value=each["path"]),
            Property(name="triton-assembler:kind", value=each["kind"]),
        ],
    )


def _licences(names: list[str]) -> list[Any]:
    from cyclonedx.model.license import DisjunctiveLicense, LicenseExpression
    from cyclonedx.spdx import is_supported_id

    # An expression stands alone (schema); the library's own test for one costs 0.1 s.
    if len(names) == 1 and re.search(" (OR|AND|WITH) ", names[0]):
        return [LicenseExpression(names[0])]
    return [
        DisjunctiveLicense(id=name) if is_supported_id(name) else DisjunctiveLicense(name=name)
        for name in names
    ]
