"""Where the record of an image is found, when nothing lies beside the image."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from assembler.caching.cache import Cache
from assembler.papers import finding
from assembler.reference import Reference
from assembler.sources.opening import Access

ID, DIGEST, OTHER = (f"sha256:{digit * 64}" for digit in "123")


def keep(cache: Cache, image: str, diff_id: str) -> None:
    pinned = {"name": "r:1", "config": ID, "digest": ""}
    layer = {"name": "numpy", "summary": "numpy", "diff_id": diff_id}
    record = {
        "image": {"id": image, "digest": DIGEST}, "release": "24.05", "source": pinned,
        "base": pinned, "layers": [layer], "drops": [], "dropped": {}, "origins": {}, "files": {},
        "patches": [],
    }  # fmt: skip
    name = f"records/{image.removeprefix('sha256:')}.json"
    cache.put(name, json.dumps(record).encode(), sealed=False)


@pytest.mark.parametrize(
    ("image", "diff_ids", "derived", "found"),
    [
        pytest.param(ID, [ID], False, True, id="the Engine's image, its exact config unknown"),
        pytest.param(OTHER, [ID], False, False, id="another image of the same layers"),
        pytest.param(OTHER, [ID, OTHER], True, True, id="built on it"),
        pytest.param(OTHER, [OTHER], True, False, id="built on something else"),
    ],
)
def test_in_the_cache(
    tmp_path: Path, image: str, diff_ids: list[str], derived: bool, found: bool
) -> None:
    cache = Cache(tmp_path, print)
    keep(cache, ID, ID)
    source: Any = SimpleNamespace(config=b"{}", id=image, digest=None, diff_ids=diff_ids)
    reference = Reference.parse("docker-daemon:slim:1")
    record, where = finding.find(None, reference, source, Access(), cache, derived=derived)
    assert ((record is not None), where.endswith(".json")) == (found, found)
