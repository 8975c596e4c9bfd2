"""Where seek indexes are kept: in the cache, by the image's digest, and in files."""

from __future__ import annotations

from pathlib import Path

from assembler import seekindex
from assembler.cache import Cache
from assembler.errors import SourceError
from assembler.seekindex import SeekIndex
from assembler.sources import Source


def find(given: str | None, source: Source, cache: Cache) -> SeekIndex | None:
    """Return the index for `source`: the one in the file `given`, else the cache's, or None.

    Raises SourceError for a file that is no index, or of another image.
    """
    if not hasattr(source, "open_span"):
        return None  # A file or an Engine: nothing is fetched.
    if given is None:
        data = cache.get(_name(source))
        try:
            return seekindex.load(data, "the cached index") if data else None
        except SourceError:
            return None  # Of an older form.
    try:
        index = seekindex.load(Path(given).read_bytes(), given)
    except OSError as error:
        raise SourceError(f"--index-from {given}: {error.strerror}") from None
    if not index.layers.keys() & set(source.digests):
        raise SourceError(
            f"--index-from {given} is of another image: it has no layer of {source.reference}"
        )
    return index


def keep(index: SeekIndex, source: Source, cache: Cache) -> None:
    """Keep the index of `source` in the cache."""
    cache.put(_name(source), seekindex.dump(index))


def forget(source: Source, cache: Cache) -> None:
    """Throw the cached index away: it was wrong."""
    cache.remove(_name(source))


def _name(source: Source) -> str:
    return f"indexes/{(source.digest or '').removeprefix('sha256:')}"
