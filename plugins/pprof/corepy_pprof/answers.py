"""Answers the requests for /debug/pprof/... (Go: net/http/pprof)."""

from __future__ import annotations

import asyncio
import os
import re
import sys
from http import HTTPStatus
from itertools import count
from typing import TYPE_CHECKING, Final, NamedTuple, TypeVar

from corepy.http import HTTPResponse
from corepy.plugin import in_thread
from corepy_pprof.activities import threads
from corepy_pprof.cpu import ProfilerUnavailable
from corepy_pprof.index import page
from corepy_pprof.measures import GOROUTINES, SNAPSHOTS, is_of_one_moment
from corepy_pprof.measuring import BusyError
from corepy_pprof.parameters import BadRequest, read_parameters
from corepy_pprof.profile import Profile, combine
from corepy_pprof.protobuf import encode
from corepy_pprof.text import as_text
from corepy_pprof.timeline import Timeline, encode_timelines

if TYPE_CHECKING:
    from corepy.http import HTTPRequest
    from corepy_pprof.measures import Part
    from corepy_pprof.parameters import Parameters
    from corepy_pprof.shared import Shared

NAMES: Final = (
    *("profile", "trace", "heap", "allocs"),
    *("goroutine", "block", "mutex", "threadcreate"),
)
"""What can be measured."""

BINARY: Final = "application/octet-stream"
_NOSNIFF: Final = ("X-Content-Type-Options", "nosniff")
_T = TypeVar("_T")
_NUMBER: Final = re.compile(r"(?m)^goroutine [0-9]+")


class Measured(NamedTuple):
    """The profiles of all processes, this one's first."""

    parts: list[Part]
    problems: list[str]
    """A line for each process that is missing."""

    def contents(self, kind: type[_T]) -> list[tuple[int, _T]]:
        """Return the IDs of the processes with their profiles, which all are of one kind."""
        return [(process, it) for process, it in self.parts if isinstance(it, kind)]

    @property
    def comments(self) -> list[str]:
        """Which processes were measured, and which were not."""
        first, *others = [part.process for part in self.parts]
        if not others:
            return [f"process {first}", *self.problems]
        return [f"processes {first}, {', '.join(map(str, others))}", *self.problems]


class Answers:
    """The answers of a server."""

    def __init__(self, shared: Shared) -> None:
        self._shared = shared

    def redirect(self, request: HTTPRequest) -> HTTPResponse:
        """Answer a request without the slash at the end."""
        location = ("Location", "/debug/pprof/")
        return HTTPResponse(b"", HTTPStatus.FOUND, headers=(location,))

    def index(self, request: HTTPRequest) -> HTTPResponse:
        """Answer with the list of profiles."""
        found, stalls = len(threads()), len(self._shared.stalls.stalls)
        counts = {"threadcreate": found, "block": stalls, "mutex": 0}
        counts["goroutine"] = found + len(asyncio.all_tasks())
        followers = self._shared.followers
        number = 0 if followers is None else followers.count
        more = f" and {number} more; the numbers are those of the first one" if number else ""
        body = page(counts, f"process {os.getpid()}{more}").encode()
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
            return await self._measure(name, read_parameters(request))
        except BadRequest as error:
            return _refusal(HTTPStatus.BAD_REQUEST, str(error))
        except BusyError as error:
            return _refusal(HTTPStatus.CONFLICT, str(error))
        except ProfilerUnavailable as error:
            return _refusal(HTTPStatus.SERVICE_UNAVAILABLE, f"no CPU profile: {error}")

    async def _measure(self, name: str, parameters: Parameters) -> HTTPResponse:
        if name in SNAPSHOTS and parameters.debug and parameters.seconds is not None:
            raise BadRequest("seconds and debug cannot be combined")
        if not is_of_one_moment(name, parameters):
            return await self._answer(name, parameters)
        async with self._shared.snapshot:  # a hundred at a time would keep the event loop busy
            return await self._answer(name, parameters)

    async def _answer(self, name: str, parameters: Parameters) -> HTTPResponse:
        if name == "goroutine" and parameters.debug >= 2:
            return _text(_as_list(await self._take(GOROUTINES, parameters)))
        measured = await self._take(name, parameters)
        if name == "trace":
            body = await in_thread(lambda: _as_timelines(measured))
            return _download(body, "trace.json", "application/json")
        if parameters.debug and name != "profile":
            return _text(await in_thread(lambda: as_text(_as_profile(measured))))
        body = await in_thread(lambda: encode(_as_profile(measured)))
        return _download(body, name)

    async def _take(self, name: str, parameters: Parameters) -> Measured:
        """Return the profiles of all processes, which are measured at the same time."""
        followers, measures = self._shared.followers, self._shared.measures
        if followers is None:
            return Measured([await measures.take(name, parameters)], [])
        others = asyncio.create_task(followers.take(name, parameters))
        try:
            own = await measures.take(name, parameters)
            found = await others
        except BaseException:
            others.cancel()
            raise
        return Measured([own, *found.parts], found.problems)


def _as_profile(measured: Measured) -> Profile:
    profiles = measured.contents(Profile)
    profile = combine(profiles) if len(profiles) > 1 else profiles[0][1]
    profile.comments += measured.comments
    return profile


def _as_timelines(measured: Measured) -> bytes:
    parts = measured.contents(Timeline)
    is_only = len(parts) == 1
    timelines = [("" if is_only else f"process {process}: ", it) for process, it in parts]
    return encode_timelines(timelines, "; ".join(measured.comments))


def _as_list(measured: Measured) -> str:
    """Return the threads and tasks of all processes, numbered throughout."""
    numbers, parts = count(1), measured.contents(str)
    is_only = len(parts) == 1
    texts = [text if is_only else f"# process {process}\n{text}" for process, text in parts]
    text = "\n".join((*texts, *(f"# {problem}\n" for problem in measured.problems)))
    return _NUMBER.sub(lambda _: f"goroutine {next(numbers)}", text)


def _text(text: str) -> HTTPResponse:
    return HTTPResponse(text.encode("utf-8", "replace"), headers=(_NOSNIFF,))


def _download(body: bytes, name: str, content_type: str = BINARY) -> HTTPResponse:
    disposition = ("Content-Disposition", f'attachment; filename="{name}"')
    return HTTPResponse(body, content_type=content_type, headers=(_NOSNIFF, disposition))


def _refusal(status: HTTPStatus, reason: str) -> HTTPResponse:
    """Return an error; the header makes `go tool pprof` print the reason."""
    headers = (_NOSNIFF, ("X-Go-Pprof", "1"))
    return HTTPResponse(f"{reason}\n".encode(), status, headers=headers)
