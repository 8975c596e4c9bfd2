"""A check of a running server: a stable name, what is asked, and the model that it asks."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from assembler.verify.serving.client import Client


@dataclass(frozen=True)
class Check:
    """make: asks, and raises where an answer is wrong. model: "" for those of any image."""

    name: str
    make: Callable[[Client], None]
    model: str = ""
