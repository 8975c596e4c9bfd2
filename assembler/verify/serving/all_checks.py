"""All checks of a running server, in the order in which they are made."""

from __future__ import annotations

from assembler.verify.serving import checks_admin, checks_infer, checks_python, checks_settings

CHECKS = [
    *checks_admin.CHECKS,
    *checks_infer.CHECKS,
    *checks_python.CHECKS,
    *checks_settings.CHECKS,
]
