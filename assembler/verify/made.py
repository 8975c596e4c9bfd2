"""`extract --verify`: the image that was just made has to hold before it gets its names."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from assembler.destinations import Image
from assembler.errors import DestinationError, listing
from assembler.sources.blobs import BlobSource
from assembler.verify import run, started, static, subject
from assembler.verify.checks import Report
from assembler.verify.container import Limits

_READY_SECONDS = 120.0


class _Made(BlobSource):
    """The layers of an image that was just made, where they lie."""

    def __init__(self, image: Image) -> None:
        self.reference, self.digest, self.config = "the new image", image.digest, image.config
        self.layers = image.layers
        self.diff_ids = tuple(layer.diff_id for layer in image.layers)
        self.sizes = tuple(layer.descriptor.size for layer in image.layers)
        self.digests = tuple(layer.descriptor.digest for layer in image.layers)


@contextmanager
def verified(
    image: Image,
    record: Any,
    scratch: Path,
    say: Callable[[str], object],
    *,
    keep: bool,
) -> Iterator[None]:
    """Check the image, then let the block deliver it.

    keep: whether the Engine, which gets it to start it, keeps it when the block ends well.
    Raises DestinationError that lists what does not hold; the Engine has then nothing of it.
    """
    from assembler.verify.serving import needed

    source, report = _Made(image), Report("the new image")
    here = not (why := run.obstacle(image.platform))
    if here:
        needed()
    scratch.mkdir(exist_ok=True)
    files = static.check(source, record, scratch, report)
    _judge(report)
    if not here:
        say(f"verified, the static part alone: {why}")
        yield
        return
    with subject.held(source, image.platform, keep=keep) as held:
        found = started.Subject(held, files.settings, tuple(files.backends()))
        started.check(found, report, Limits(), _READY_SECONDS)
        _judge(report)
        say(f"verified: {sum(r.status == 'ok' for r in report.results)} checks hold")
        yield


def _judge(report: Report) -> None:
    if not report.holds:
        raise DestinationError(
            listing(
                "the image does not hold and got no name",
                (f"{result.name}: {result.text}" for result in report.failed),
            )
        )
