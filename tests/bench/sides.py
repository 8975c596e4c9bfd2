"""What is compared, in the order in which it is measured: some sides go on where one ended."""

from __future__ import annotations

from collections.abc import Callable

from tests.bench import ours, peers
from tests.bench.bench import Bench, Figures

HAND, UMOCI, PLAIN = "docker pull + build", "skopeo + umoci unpack", "plain Python stream"
ENGINE, LAYOUT = "cold, into the Engine", "cold, into a layout"
INDEX_LAYOUT, INDEX_ENGINE = "with an index, into a layout", "with an index, into the Engine"
UNCHANGED, NUMPY, BACKEND = "unchanged", "another numpy", "a backend added"

SIDES: dict[str, Callable[[Bench], Figures]] = {
    HAND: peers.by_hand,
    UMOCI: peers.skopeo_umoci,
    PLAIN: peers.plain_stream,
    LAYOUT: ours.cold_layout,
    ENGINE: ours.cold_engine,
    INDEX_LAYOUT: ours.index_layout,
    INDEX_ENGINE: ours.index_engine,
    UNCHANGED: ours.unchanged,
    NUMPY: ours.other_numpy,
    BACKEND: ours.other_backend,
}
# Over a slow link, where seconds are bytes: what a reader may want to know of it.
LINKED = (HAND, LAYOUT, INDEX_LAYOUT)
