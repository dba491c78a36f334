"""What *errors* writes, and when."""

import asyncio
import io
import logging
from collections.abc import Iterator

import pytest
import re2

from corepy.dns import Reply, Request
from corepy.plugin import Cacheability
from corepy.plugin.log import CoreDNSFormatter, server_logger
from corepy.testing import Recorder, make_request, run_chain, serve
from corepy_errors.consolidation import Consolidation
from corepy_errors.errors import Errors, printable

DAY = 86400


@pytest.fixture
def output() -> Iterator[io.StringIO]:
    logger = server_logger()
    before = (logger.handlers[:], logger.level, logger.propagate)
    stream = io.StringIO()
    handler = logging.StreamHandler(stream)
    handler.setFormatter(CoreDNSFormatter())
    logger.handlers[:], logger.level, logger.propagate = [handler], logging.DEBUG, False
    yield stream
    logger.handlers[:], logger.level, logger.propagate = before


def failing(*reasons: str | None) -> Recorder:
    """A handler whose replies carry these reasons, one after the other."""
    left = iter(reasons)
    return Recorder(lambda request: request.error(2, next(left)))


def consolidation(pattern: str, **settings: object) -> Consolidation:
    return Consolidation(**{"period": DAY, "pattern": re2.compile(pattern), **settings})  # type: ignore[arg-type]  # settings are fields


async def ask(handler: Errors, below: Recorder, count: int) -> None:
    handler.next = below
    for _ in range(count):
        await handler.serve_dns(make_request("example.org"))


def test_logs_the_error(output: io.StringIO) -> None:
    reply = run_chain(make_request("Example.ORG", "AAAA"), Errors(), failing("test error"))
    assert (reply.rcode, reply.error) == (2, "test error")
    assert output.getvalue() == "[ERROR] plugin/errors: 2 example.org. AAAA: test error\n"


def test_says_nothing_without_one(output: io.StringIO) -> None:
    reply = run_chain(make_request("example.org"), Errors(), failing(None))
    assert reply.rcode == 2
    assert output.getvalue() == ""


def test_extended_rcode(output: io.StringIO) -> None:
    run_chain(make_request("."), Errors(), Recorder(lambda r: Reply(r.error(7).wire, 1, error="x")))
    assert output.getvalue() == "[ERROR] plugin/errors: 23 . A: x\n"


@pytest.mark.parametrize(
    ("reason", "shown"),
    [
        ("100 %s %d", "100 %s %d"),
        ("a\nb\r\x1b[31m", "a\\nb\\r\\x1b[31m"),
        ("lone \udc80", "lone \\udc80"),
        ("caf\u00e9", "caf\u00e9"),
    ],
)
def test_one_line_whatever_the_error_says(output: io.StringIO, reason: str, shown: str) -> None:
    handler = Errors([consolidation("no such thing")])
    run_chain(make_request("example.org"), handler, failing(reason))
    assert output.getvalue() == f"[ERROR] plugin/errors: 2 example.org. A: {shown}\n"
    assert printable(reason) == shown


@pytest.mark.parametrize(
    ("level", "name"),
    [
        (logging.ERROR, "ERROR"),
        (logging.WARNING, "WARNING"),
        (logging.INFO, "INFO"),
        (logging.DEBUG, "DEBUG"),
    ],
)
def test_consolidates(output: io.StringIO, level: int, name: str) -> None:
    handler = Errors([consolidation("^error.*!$", level=level, period=2)])

    async def run() -> None:
        await ask(handler, failing("error 1!", "error 2!", "other", "error 3!"), 4)
        handler.shutdown()

    asyncio.run(run())
    assert output.getvalue().splitlines() == [
        "[ERROR] plugin/errors: 2 example.org. A: other",
        f"[{name}] plugin/errors: 3 errors like '^error.*!$' occurred in last 2s",
    ]


def test_the_first_pattern_takes_an_error(output: io.StringIO) -> None:
    handler = Errors([consolidation("one"), consolidation("."), consolidation("two")])

    async def run() -> None:
        await ask(handler, failing("one", "two", "one two"), 3)
        handler.shutdown()

    asyncio.run(run())
    assert output.getvalue().splitlines() == [
        "[ERROR] plugin/errors: 2 errors like 'one' occurred in last 24h0m0s",
        "[ERROR] plugin/errors: 1 errors like '.' occurred in last 24h0m0s",
    ]


@pytest.mark.parametrize(
    ("count", "summary"),
    [(1, []), (3, ["[WARNING] plugin/errors: 3 errors like 'x' occurred in last 24h0m0s"])],
)
def test_show_first(output: io.StringIO, count: int, summary: list[str]) -> None:
    handler = Errors([consolidation("x", level=logging.WARNING, show_first=True)])

    async def run() -> None:
        await ask(handler, failing("x1", "x2", "x3"), count)
        assert len(output.getvalue().splitlines()) == 1
        handler.shutdown()

    asyncio.run(run())
    first = "[WARNING] plugin/errors: 2 example.org. A: x1"
    assert output.getvalue().splitlines() == [first, *summary]


def test_a_period_ends_and_another_begins(output: io.StringIO) -> None:
    handler = Errors([consolidation("x", period=0.001)])
    line = "[ERROR] plugin/errors: 2 errors like 'x' occurred in last 1ms"

    async def period(lines: int) -> None:
        await ask(handler, failing("x", "x"), 2)
        while len(output.getvalue().splitlines()) < lines:  # noqa: ASYNC110 - a log has no event
            await asyncio.sleep(0.001)

    async def run() -> None:
        await asyncio.wait_for(period(1), 60)
        await asyncio.wait_for(period(2), 60)

    asyncio.run(run())
    assert output.getvalue().splitlines() == [line, line]


def test_after_the_stop_errors_are_logged_one_by_one(output: io.StringIO) -> None:
    handler = Errors([consolidation("x", level=logging.INFO)])

    async def run() -> None:
        await ask(handler, failing("x1"), 1)
        handler.shutdown()
        await ask(handler, failing("x2", "x3"), 2)
        handler.shutdown()

    asyncio.run(run())
    assert output.getvalue().splitlines() == [
        "[INFO] plugin/errors: 1 errors like 'x' occurred in last 24h0m0s",
        "[INFO] plugin/errors: 2 example.org. A: x2",
        "[INFO] plugin/errors: 2 example.org. A: x3",
    ]


def test_hostile_patterns_take_no_time(output: io.StringIO) -> None:
    handler = Errors([consolidation("(a+)+$")])
    run_chain(make_request("example.org"), handler, failing("a" * 100_000 + "!"))
    assert len(output.getvalue()) > 100_000


def test_keeps_the_packet_cache() -> None:
    assert Errors().cacheability is Cacheability.OBSERVES


def test_served(output: io.StringIO) -> None:
    text = ". {\nbind 127.0.0.1\nerrors {\nconsolidate 1h other\nconsolidate 1h next\n}\n}"
    with serve(text) as server:
        replies = [server.ask("example.org") for _ in range(2)]
    assert [reply.header.rcode for reply in replies] == [2, 2]
    line = "[ERROR] plugin/errors: 2 errors like 'next' occurred in last 1h0m0s\n"
    assert line in output.getvalue()


def test_only_looks(output: io.StringIO) -> None:
    request, below = make_request("example.org"), Recorder()

    def answer(asked: Request) -> Reply:
        assert asked is request
        return kept

    kept = request.error(0)
    below._answer = answer
    assert run_chain(request, Errors(), below) is kept
