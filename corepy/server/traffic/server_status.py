"""The document of the command `status`: a server at a glance, with its problems."""

from __future__ import annotations

import asyncio
import hashlib
import platform
import time
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from corepy.plugin import handlers_below
from corepy.plugin.failures import report
from corepy.release import commit
from corepy.server.build.generation import directive_of
from corepy.server.listen.packet_cache import SWITCH, is_enabled
from corepy.server.traffic import figures, plugin_status

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from corepy.server.build.generation import Generation
    from corepy.server.listen.router import ZoneRoute
    from corepy.server.server import Server


async def document(server: Server, reports: Sequence[figures.Report]) -> dict[str, Any]:
    """Return the document; the first report is that of the leader."""
    generation = server.generation
    now = time.time()  # time of day: for the reader
    reloads, listeners = server.reloads, figures.listeners(reports)
    found: dict[str, Any] = {
        "time": now,
        "server": {
            **figures.identity(server, now),
            "commit": commit(),
            "python": platform.python_version(),
        },
        "configuration": await _configuration(server, generation),
        "reload": asdict(reloads) if reloads.count else None,
        "totals": figures.totals(reports),
        "recent": figures.recent(server, reports, now),
        "not_ready": [] if generation is None else _not_ready(generation),
        "listeners": listeners,
        "blocks": [] if generation is None else _blocks(server, generation),
        "packet_cache": {
            "enabled": is_enabled(),
            "entries": sum(it["packet_cache_entries"] for it in listeners),
            "bytes": server.memory_pool.used,
            "limit": server.memory_pool.limit,
        },
        "plugins": plugin_status.merge([report.plugins for report in reports]),
        "processes": figures.processes(reports),
        "memory": figures.memory(reports),
    }
    found["ready"] = generation is not None and not found["not_ready"]
    found["problems"] = list(_problems(server, found))
    return found


async def _configuration(server: Server, generation: Generation | None) -> dict[str, Any]:
    """Return the file and its hash, and whether it has changed since it was loaded."""
    if generation is None or generation.plan is None:
        nothing = dict.fromkeys(("file", "sha256", "changed", "loaded"))
        return {**nothing, "files": [], "warnings": []}
    corefile = generation.plan.corefile
    texts = [source.text for source in corefile.sources]
    digest = hashlib.sha256("".join(texts).encode("utf-8", "surrogateescape")).hexdigest()
    return {
        "file": corefile.files[0] if corefile.files else server.configuration_name,
        "files": [str(path) for path in generation.files],
        "sha256": digest,
        "changed": await asyncio.to_thread(_is_changed, corefile.files, digest),
        "loaded": server.loaded,
        "warnings": [str(warning) for warning in generation.warnings],
    }


def _is_changed(files: Sequence[str], digest: str) -> bool | None:
    """Return whether the files differ from those that were loaded; None without files."""
    if not files:
        return None
    now = hashlib.sha256()
    try:
        for file in files:
            with open(file, "rb") as opened:
                now.update(opened.read())
    except OSError:
        return True
    return now.hexdigest() != digest


def _not_ready(generation: Generation) -> list[str]:
    """Return the directives of the plugins that are not ready."""
    found = set()
    for implementation in generation.plugins.hook.ready.get_hookimpls():
        directive = directive_of(implementation)
        try:
            is_ready = bool(implementation.function())
        except BaseException as error:  # plugin code
            report(directive, "hook", "failed to report whether it is ready", error)
            is_ready = False
        if not is_ready:
            found.add(directive)
    return sorted(found)


def _blocks(server: Server, generation: Generation) -> list[dict[str, Any]]:
    """Return the server blocks in the order of the Corefile."""
    found: dict[tuple[str, str], dict[str, Any]] = {}
    for listen, router in generation.routers.items():
        label = server.endpoints[listen].label
        for route in router.routes:
            block = found.setdefault((route.position, route.filters.view), _block(route))
            if route.zone not in block["zones"]:
                block["zones"].append(route.zone)
            if label not in block["servers"]:
                block["servers"].append(label)
    return list(found.values())


def _block(route: ZoneRoute) -> dict[str, Any]:
    first = route.chain
    chain = [] if first is None else [it.name for it in (first, *handlers_below(first))]
    return {
        "place": route.position,
        "zones": [],
        "view": route.filters.view,
        "servers": [],
        "chain": chain,
        "beside": [name for name in route.directives if name not in chain],
        "packet_cache": {"on": is_enabled() and route.obstacle is None, "reason": _why_off(route)},
    }


def _why_off(route: ZoneRoute) -> str | None:
    """Return why the packet cache is off for a block; None if it is on."""
    if not is_enabled():
        return f"environment variable {SWITCH}"
    if route.obstacle is None:
        return None
    return f"because of {route.obstacle}" if route.obstacle else "nothing is cached"


def _problems(server: Server, found: dict[str, Any]) -> Iterator[str]:
    """Yield a line for each problem of a server."""
    if server.generation is None:
        yield "the server is not serving"
    if server.reloads.error is not None:
        first = server.reloads.error.strip().splitlines()[0]
        yield f"the last reload failed, the configuration before it stays in use: {first}"
    yield from server.process_problems()
    if found["not_ready"]:
        yield f"not ready: {', '.join(found['not_ready'])}"
    for plugin in found["plugins"]:
        status = plugin["status"]
        problems = status.get("problems") if isinstance(status, dict) else None
        for problem in problems if isinstance(problems, list) else ():
            yield f"{plugin['plugin']}: {problem}"
