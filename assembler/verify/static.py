"""The static part: one reading of the image, nothing started."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from assembler.errors import SourceError
from assembler.sources import Source
from assembler.verify import static_record
from assembler.verify.checks import Report
from assembler.verify.exported import exported
from assembler.verify.files import TOP, Files
from assembler.verify.static_libraries import Libraries
from assembler.verify.static_python import Python
from assembler.verify.static_system import System


def check(source: Source, record: Any, spool: Path, report: Report) -> Files:
    """Read the image and make all static checks; SourceError where it is no Triton at all.

    record: of the image, or None. spool: a folder for what is read.
    """
    with exported(source) as readable:
        files = Files(readable, spool, static_record.recorded(record))
        if not files.kind(TOP):
            raise SourceError(
                f"{source.reference} is no Triton image: it has no /{TOP} "
                "(verify wants a full or slim Triton image)"
            )
        checks: list[tuple[str, Callable[[], str]]] = [
            *System(files).checks(),
            *Libraries(files).checks(),
            *Python(files).checks(),
            ("record", lambda: static_record.check(files, record)),
        ]
        for name, each in checks:
            report.run("static", name, each)
    report.release = files.env().get("NVIDIA_TRITON_SERVER_VERSION", "")
    return files
