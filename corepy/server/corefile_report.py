"""The document of the command `corefile`: the texts that are in use, and the problems with them."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

from corepy.corefile.diagnostics import as_dict
from corepy.corefile.redaction import hide, redact

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from corepy.corefile import Diagnostic, Source
    from corepy.server.server import Server


async def document(server: Server) -> dict[str, Any]:
    """Return the Corefile and its imports as they were loaded, without secrets.

    `error` is the error of the last reload, None if it has succeeded.
    """
    generation = server.generation
    sources: Sequence[Source] = ()
    if generation is not None and generation.plan is not None:
        sources = generation.plan.corefile.sources
    # The lexer takes milliseconds for a large file, in which queries would wait.
    files, hidden = await asyncio.to_thread(_files, sources)
    warnings = [] if generation is None else generation.warnings
    return {
        "files": files,
        "diagnostics": [_without_secrets(it, hidden) for it in warnings],
        "error": server.reloads.error,
    }


def _files(sources: Iterable[Source]) -> tuple[list[dict[str, str]], set[str]]:
    files, hidden = [], set[str]()
    for source in sources:
        redacted = redact(source.text, {(it.line, it.column) for it in source.hidden})
        hidden |= redacted.hidden
        files.append({"name": source.name, "text": redacted.text})
    return files, hidden


def _without_secrets(diagnostic: Diagnostic, hidden: set[str]) -> dict[str, Any]:
    found: dict[str, Any] = as_dict(diagnostic)
    for key in ("message", "hint"):
        if found[key] is not None:
            found[key] = hide(found[key], hidden)
    for related in found["related"]:
        related["message"] = hide(related["message"], hidden)
    return found
