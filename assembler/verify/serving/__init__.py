"""Models made on the spot, a client of the server that serves them, and what it is asked.

Needs the extra `verify` (onnx, tritonclient); `needed` says so in one line where it lacks.
"""

from __future__ import annotations

from importlib.util import find_spec

from assembler.errors import AssemblerError


def needed() -> None:
    """Raise AssemblerError unless what this package imports is installed."""
    missing = [
        name
        for name in ("numpy", "onnx", "tritonclient", "grpc", "geventhttpclient")
        if find_spec(name) is None
    ]
    if missing:
        raise AssemblerError(
            f"asking a server needs {', '.join(missing)}: pip install 'triton-assembler[verify]', "
            "or say --static"
        )
