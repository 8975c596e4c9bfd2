"""What is made beside an image: its record, bill of materials and provenance."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path

from assembler.destinations import Artifact
from assembler.destinations.files import check_output, made_beside
from assembler.errors import DestinationError
from assembler.papers import record, sbom, statement
from assembler.papers.record import Record

RECORD = "record.json"
SBOM = "sbom.cdx.json"
PROVENANCE = "provenance.intoto.json"
TYPES = {RECORD: record.TYPE, SBOM: sbom.TYPE, PROVENANCE: statement.TYPE}


def make(found: Record, name: str) -> dict[str, bytes]:
    """Return the documents by file name; `name` is the image's."""
    made = {RECORD: record.text(found), SBOM: sbom.document(found)}
    return made | {PROVENANCE: statement.document(found, name, made)}


def artifacts(made: Mapping[str, bytes]) -> tuple[Artifact, ...]:
    """Return the documents as what a destination puts beside an image."""
    return tuple(Artifact(TYPES[name], TYPES[name], data) for name, data in made.items())


def is_single(path: Path) -> bool:
    """Tell whether a path given with --record is of a file, for the record alone."""
    return path.suffix == ".json"


def check(path: Path | None) -> None:
    """Raise DestinationError where the documents could not be written later."""
    if path is None:
        return
    if is_single(path):
        check_output(path, over=True)
        return
    if not path.is_dir():
        check_output(path)
        return
    for name in TYPES:
        check_output(path / name, over=True)


@contextmanager
def written(path: Path | None, made: Mapping[str, bytes]) -> Iterator[None]:
    """Write the documents to a folder (or the record to a file), where they appear when the block
    ends well. Raises DestinationError.
    """
    if path is None:
        yield
        return
    files = {path: made[RECORD]} if is_single(path) else {path / n: d for n, d in made.items()}
    new = not is_single(path) and not path.exists()
    try:
        if new:
            path.mkdir()
        with ExitStack() as stack:
            for file, data in files.items():
                stack.enter_context(made_beside(file, folder=False, over=True)).write_bytes(data)
            yield
    except OSError as error:
        raise DestinationError(f"cannot write {path}: {error.strerror}") from None
    finally:
        if new and path.is_dir() and not any(path.iterdir()):
            path.rmdir()
