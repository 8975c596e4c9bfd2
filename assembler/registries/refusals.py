"""What a registry means when it does not take something: one line, with what to do next."""

from __future__ import annotations

import re

from assembler.registries.credentials import login_command

# Distribution passes on what its disk says: "no space left on device", or `"Err":28` (ENOSPC).
_NO_SPACE = re.compile(r'no space left|insufficient storage|quota|"Err":\s*28\b', re.IGNORECASE)
# ECR: 400 "… cannot be overwritten because the repository is immutable"; Harbor: 412 "configured
# as immutable"; others: 403 or 409 in words of their own.
_IMMUTABLE = re.compile(r"immutab|already exist|overwrit|locked", re.IGNORECASE)


def writing(status: int, registry: str, what: str, body: str, said: str) -> tuple[str, bool] | None:
    """Return the line for a write that was refused, and whether trying again may help.

    body: the whole answer, which is searched and not shown. said: its message, after a colon, or
    nothing. None where the status says all there is to say.
    """
    if status == 507 or (status >= 400 and _NO_SPACE.search(body)):
        return f"{registry} has no room for {what} ({status}{said}): make room there", False
    if status == 403:
        login = login_command(registry)
        return (
            f"{registry} does not let us write {what} (403 Forbidden{said}): {login} as somebody "
            "who may push there",
            False,
        )
    if status == 404:
        return (
            f"{registry} has no place for {what} (404{said}): create the repository or project "
            "there first, and see that the name is right",
            False,
        )
    if status == 405:
        return (
            f"{registry} is read-only, so it does not take {what} (405{said}): is it a "
            "pull-through cache, or under maintenance?",
            False,
        )
    if status == 413:
        return (
            f"{registry} finds {what} too large (413{said}): raise the limit of the proxy before "
            "it (client_max_body_size, for nginx)",
            False,
        )
    return None


def tag_is_immutable(status: int, text: str) -> bool:
    """Tell whether a tag was refused because it is there and may not be moved. text: the error."""
    return status in (409, 412) or (status in (400, 403, 405) and bool(_IMMUTABLE.search(text)))
