"""Answers the requests for /debug/pprof/... (Go: net/http/pprof)."""

from __future__ import annotations

import asyncio
import gc
import os
import sys
import tracemalloc
from http import HTTPStatus
from typing import TYPE_CHECKING, Final

from corepy.http import HTTPResponse
from corepy.plugin import in_thread, plugin_logger
from corepy_pprof import collectors, heap
from corepy_pprof.activities import tasks, threads
from corepy_pprof.cpu import CpuProfiler, ProfilerUnavailable
from corepy_pprof.index import page
from corepy_pprof.measuring import BusyError
from corepy_pprof.parameters import BadRequest, read_parameters
from corepy_pprof.profile import difference
from corepy_pprof.protobuf import encode
from corepy_pprof.text import as_goroutines, as_text
from corepy_pprof.timeline import timeline

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from corepy.http import HTTPRequest
    from corepy.plugin import ProcessGroup
    from corepy_pprof.measuring import Shared
    from corepy_pprof.parameters import Parameters
    from corepy_pprof.profile import Profile

    Measure = Callable[[Parameters], Awaitable[HTTPResponse]]

PROFILE_SECONDS: Final = 30.0
TRACE_SECONDS: Final = 1.0
HEAP_SECONDS: Final = 5.0
"""Default length of a heap profile, if allocations are not recorded all the time."""

HEAP_FRAMES: Final = 8
"""Frames of each allocation's stack that such a profile records."""

BINARY: Final = "application/octet-stream"
_NOSNIFF: Final = ("X-Content-Type-Options", "nosniff")
LOG = plugin_logger("pprof")


class Answers:
    """The answers of one process."""

    def __init__(self, shared: Shared, process_group: ProcessGroup) -> None:
        self._shared = shared
        self._process_group = process_group
        self.snapshots: dict[str, Callable[[], Awaitable[Profile]]] = {
            "block": self._block,
            "mutex": self._mutex,
            "goroutine": collectors.goroutine,
            "threadcreate": collectors.threadcreate,
        }
        self.measures: dict[str, Measure] = {
            "profile": self._cpu,
            "trace": self._trace,
            "heap": lambda parameters: self._heap("heap", parameters),
            "allocs": lambda parameters: self._heap("allocs", parameters),
        } | {name: self._snapshot(name) for name in self.snapshots}

    def redirect(self, request: HTTPRequest) -> HTTPResponse:
        """Answer a request without the slash at the end."""
        location = ("Location", "/debug/pprof/")
        return HTTPResponse(b"", HTTPStatus.FOUND, headers=(location,))

    def index(self, request: HTTPRequest) -> HTTPResponse:
        """Answer with the list of profiles."""
        found, stalls = len(threads()), len(self._shared.stalls.stalls)
        counts = {"threadcreate": found, "block": stalls, "mutex": 0}
        counts["goroutine"] = found + len(asyncio.all_tasks())
        body = page(counts, self._process()).encode()
        return HTTPResponse(body, content_type="text/html; charset=utf-8", headers=(_NOSNIFF,))

    def cmdline(self, request: HTTPRequest) -> HTTPResponse:
        """Answer with the command line."""
        return _text("\0".join(sys.argv))

    def symbol(self, request: HTTPRequest) -> HTTPResponse:
        """Answer that there are no addresses to look up: profiles contain names."""
        return _text("num_symbols: 0\n")

    async def measure(self, name: str, request: HTTPRequest) -> HTTPResponse:
        """Answer a request for a profile; a failure has a reason that `go tool pprof` prints."""
        if request.method == "HEAD":
            return HTTPResponse(content_type=BINARY, headers=(_NOSNIFF,))
        try:
            return await self.measures[name](read_parameters(request))
        except BadRequest as error:
            return _refusal(HTTPStatus.BAD_REQUEST, str(error))
        except BusyError as error:
            return _refusal(HTTPStatus.CONFLICT, str(error))
        except ProfilerUnavailable as error:
            return _refusal(HTTPStatus.SERVICE_UNAVAILABLE, f"no CPU profile: {error}")

    async def _cpu(self, parameters: Parameters) -> HTTPResponse:
        profiler = CpuProfiler()
        await self._run("profile", profiler, parameters.seconds or PROFILE_SECONDS)
        profile = await in_thread(lambda: collectors.cpu(profiler))
        return await self._file("profile", profile)

    async def _trace(self, parameters: Parameters) -> HTTPResponse:
        profiler = CpuProfiler(keeps_order=True)
        await self._run("trace", profiler, parameters.seconds or TRACE_SECONDS)
        body = await in_thread(lambda: timeline(profiler, self._process()))
        return _download(body, "trace.json", "application/json")

    async def _run(self, name: str, profiler: CpuProfiler, seconds: float) -> None:
        """Sample until the time is over, the server stops, or the client leaves."""
        with self._shared.measurement.hold(name, seconds):
            profiler.start()
            LOG.info("%s: measuring for %g s", name, seconds)
            try:
                await self._shared.measurement.wait(seconds)
            finally:
                profiler.stop()

    async def _heap(self, name: str, parameters: Parameters) -> HTTPResponse:
        is_on, seconds = self._shared.tracing.is_on, parameters.seconds
        if not is_on and seconds is None:
            seconds = HEAP_SECONDS
        with self._shared.measurement.hold(name, seconds or 0.0):
            profile = await self._trace_heap(name, parameters, seconds or 0.0)
        profile.name = name
        if not is_on:
            profile.comments.append("only what was allocated during the request")
        if parameters.debug:
            return _text(as_text(profile))
        return await self._file(name, profile)

    async def _trace_heap(self, name: str, parameters: Parameters, seconds: float) -> Profile:
        """Return what is allocated now; with `seconds`, what has been added after that time."""
        tracing = self._shared.tracing
        was_on = tracing.is_on
        tracing.acquire(HEAP_FRAMES)
        try:
            before = await _heap_profile() if was_on and seconds else None
            if seconds:
                LOG.info("%s: measuring for %g s", name, seconds)
                await self._shared.measurement.wait(seconds)
            if parameters.collect:
                gc.collect()
            after = await _heap_profile()
        finally:
            tracing.release()
        return after if before is None else difference(before, after)

    def _snapshot(self, name: str) -> Measure:
        async def answer(parameters: Parameters) -> HTTPResponse:
            if parameters.seconds is not None:
                profile = await self._change(name, parameters)
            elif name == "goroutine" and parameters.debug >= 2:
                return _text(as_goroutines([*threads(), *await tasks()]))
            else:
                profile = await self.snapshots[name]()
            if parameters.debug:
                return _text(as_text(profile))
            return await self._file(name, profile)

        return answer

    async def _change(self, name: str, parameters: Parameters) -> Profile:
        """Return the difference that `seconds` make."""
        if parameters.debug:
            raise BadRequest("seconds and debug cannot be combined")
        assert parameters.seconds is not None
        with self._shared.measurement.hold(name, parameters.seconds):
            before = await self.snapshots[name]()
            await self._shared.measurement.wait(parameters.seconds)
            return difference(before, await self.snapshots[name]())

    async def _block(self) -> Profile:
        return collectors.block(self._shared.stalls.stalls)

    async def _mutex(self) -> Profile:
        return collectors.block({}, "mutex")

    async def _file(self, name: str, profile: Profile) -> HTTPResponse:
        profile.comments.append(self._process())
        body = await in_thread(lambda: encode(profile))
        return _download(body, name)

    def _process(self) -> str:
        """Return which process is measured: with *multisocket*, only the leader."""
        size = self._process_group.size
        group = f", the leader of {size}; the others are not measured" if size > 1 else ""
        return f"process {os.getpid()}{group}"


async def _heap_profile() -> Profile:
    samples = await in_thread(lambda: heap.samples(tracemalloc.take_snapshot()))
    return collectors.heap(samples)


def _text(text: str) -> HTTPResponse:
    return HTTPResponse(text.encode("utf-8", "replace"), headers=(_NOSNIFF,))


def _download(body: bytes, name: str, content_type: str = BINARY) -> HTTPResponse:
    disposition = ("Content-Disposition", f'attachment; filename="{name}"')
    return HTTPResponse(body, content_type=content_type, headers=(_NOSNIFF, disposition))


def _refusal(status: HTTPStatus, reason: str) -> HTTPResponse:
    """Return an error; the header makes `go tool pprof` print the reason."""
    headers = (_NOSNIFF, ("X-Go-Pprof", "1"))
    return HTTPResponse(f"{reason}\n".encode(), status, headers=headers)
