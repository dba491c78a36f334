"""Hostile flags, variables, templates and ConfigMaps cost neither time, nor the log, nor a start."""

from __future__ import annotations

import asyncio
import contextlib
import json
import sys
import threading
from typing import TYPE_CHECKING

import pytest

from corepy.commands.run_server import check_generated
from corepy_nodecache import metrics
from corepy_nodecache.node_cache import configmap, sync
from corepy_nodecache.node_cache.command import run
from corepy_nodecache.node_cache.configmap import (
    ConfigMapError,
    ConfigMapFiles,
    KubeDNSConfig,
    StubDomain,
    parse_files,
)
from corepy_nodecache.node_cache.corefile_maker import CorefileMaker
from corepy_nodecache.node_cache.corefile_template import Inputs, make_corefile
from corepy_nodecache.node_cache.flags import FlagError, Options, read_flags, variable_of
from corepy_nodecache.node_cache.sync import Sync

if TYPE_CHECKING:
    from pathlib import Path


def refusal(stubs: str, upstreams: str = "null") -> str:
    files = ConfigMapFiles("/cm", stubs.encode(), upstreams.encode())
    with pytest.raises(ConfigMapError) as caught:
        parse_files(files)
    return str(caught.value)


def domains(count: int) -> dict[str, list[str]]:
    return {f"d{number}.test": ["10.0.0.1"] for number in range(count)}


def test_the_lines_of_many_domains_are_found_in_one_pass(monkeypatch: pytest.MonkeyPatch) -> None:
    """A search for each of 1,000 domains in 1 MiB would stop the event loop for seconds."""
    passes = []
    real = configmap._STRING_OR_LINE

    class Counted:
        def finditer(self, text: str) -> object:
            passes.append(len(text))
            return real.finditer(text)

    monkeypatch.setattr(configmap, "_STRING_OR_LINE", Counted())
    text = json.dumps(domains(configmap.MOST_STUB_DOMAINS), indent=0)
    found = parse_files(ConfigMapFiles("/cm", text.encode()))
    assert passes == [len(text)]
    lines = text.split("\n")
    assert all(f'"{it.domain}"' in lines[it.line - 1] for it in found.stub_domains)


def test_the_number_of_domains_is_limited() -> None:
    message = "/cm/stubDomains:1: stubDomains: 1001 domains, but at most 1000 are allowed"
    assert refusal(json.dumps(domains(1001))) == message


@pytest.mark.parametrize("upstreams", [False, True])
def test_nesting_as_deep_as_possible(upstreams: bool) -> None:
    """Whether or not the interpreter reads that depth."""
    for depth in range(sys.getrecursionlimit() - 250, sys.getrecursionlimit()):
        text = "[" * depth + "]" * depth
        message = refusal("null", text) if upstreams else refusal(f'{{"a": {text}}}')
        assert "a list is not a string" in message or "invalid JSON" in message


@pytest.mark.parametrize(
    ("stubs", "shown"),
    [
        ({"a" * 1_000_000: []}, "aaa..."),
        ({"a.test": ["x" * 1_000_000]}, "xxx..."),
        ({"a.test": [[1] * 100_000]}, "a list is not"),
        ({"a.test": [{"b": 1}]}, "an object is not"),
        ({"a.test": [10**4000]}, "000... is not"),
        ({"a.test": [None]}, "null is not"),
        ({"a\nb\x1b[2J": []}, r"a\nb\x1b[2J"),
        ({"a.test": ["1.1.1.1\n}\nimport /etc/shadow"]}, r"1.1.1.1\n}\nimport /etc/shadow"),
        ({"a.test {$HOME}": ["1.1.1.1"]}, "invalid domain name"),
        ({"a.test {\nimport /etc/shadow\n}": ["1.1.1.1"]}, "invalid domain name"),
    ],
)
def test_messages_are_one_short_line(stubs: object, shown: str) -> None:
    message = refusal(json.dumps(stubs))
    assert shown in message
    assert message.isprintable()
    assert len(message) < 250


def test_a_thousand_problems_are_not_a_thousand_lines(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    counter = metrics.setup_errors.labels("configmap")
    before = counter.value
    maker = CorefileMaker(Options(), {})
    problems = [f"problem {number}" for number in range(1000)]
    for _ in range(2):
        maker.report(problems)
    assert counter.value - before == 1000
    assert caplog.messages == [*problems[:10], "and 990 more, which `-print-corefile` lists"]


@pytest.mark.parametrize("control", ["\n", "\r", "\0", "\x1b"])
@pytest.mark.parametrize("flag", ["basecorefile", "prometheus-listen-address", "conf"])
def test_no_flag_adds_a_line_to_the_corefile(flag: str, control: str) -> None:
    value = f":9253{control}    import /etc/shadow"
    problem = f"invalid value {value!r} for %s: must be one line without control characters"
    for arguments, environment, source in (
        ((f"-{flag}", value), {}, f"-{flag}"),
        ((), {variable_of(flag): value}, variable_of(flag)),
    ):
        with pytest.raises(FlagError) as caught:
            read_flags(arguments, environment)
        assert (str(caught.value), caught.value.code) == (problem % source, 2)


@pytest.mark.parametrize("template", [".:53\n    whoami\n", ".:53", "a.test b.test # {\n"])
def test_a_template_without_braces(template: str) -> None:
    """The block ends with the file, so a stub domain after it would be a directive in it."""
    config = KubeDNSConfig((StubDomain("stub.test", ("10.0.0.1",), "/cm/stubDomains", 1),))
    options = Options(local_ips=("127.0.0.1",))
    made = make_corefile(Inputs(template, "/base", options, config, ""))
    assert check_generated(made.corefile) == ()
    assert "nodecache {" in made.corefile.text
    assert made.left_out == (
        "/cm/stubDomains:1: stubDomains['stub.test']: the server block of the template has no"
        " braces, so that none can follow; the domain is left out",
    )


def test_variables_of_services_are_no_flags() -> None:
    """Kubernetes sets them in all pods of a namespace, for Services of anyone."""
    services = {
        "COREPY_NODE_CACHE_HEALTH_PORT": "tcp://10.96.7.7:80",
        "COREPY_NODE_CACHE_HEALTH_PORT_80_TCP": "tcp://10.96.7.7:80",
        "COREPY_NODE_CACHE_HEALTH_SERVICE_HOST": "10.96.7.7",
        "COREPY_NODE_CACHE_DNS_PORT": "udp://10.96.7.8:53",
    }
    options, warnings = read_flags((), services)
    assert options == Options()
    assert not any("COREPY_NODE_CACHE_DNS_PORT " in warning for warning in warnings)
    with pytest.raises(FlagError, match=r"^invalid value .tcp://10\.96\.7\.7:80. for -health-port"):
        read_flags(("-health-port=tcp://10.96.7.7:80",), {})


def test_a_template_that_is_not_utf_8_is_printed(
    tmp_path: Path, capfdbinary: pytest.CaptureFixture[bytes]
) -> None:
    template = tmp_path / "base"
    template.write_bytes(b"# caf\xe9\n.:53 {\n    whoami\n}\n")
    flags = ["-localip=0.0.0.0", f"-basecorefile={template}", f"-kubednscm={tmp_path}/none"]
    flags += ["-metrics-listen-address="]
    assert run([*flags, "-print-corefile"]) == 0
    out, err = capfdbinary.readouterr()
    assert (out.partition(b"\n")[2], err) == (template.read_bytes(), b"")


def test_a_volume_that_hangs_stops_no_query(monkeypatch: pytest.MonkeyPatch) -> None:
    began, released = threading.Event(), threading.Event()

    def look() -> None:
        began.set()
        released.wait(60)

    async def never(reason: str) -> bool:
        raise AssertionError(reason)

    async def serve() -> None:
        maker = CorefileMaker(Options(), {})
        monkeypatch.setattr(maker, "look", look)
        following = asyncio.create_task(Sync(maker).run(never))
        await asyncio.to_thread(began.wait, 60)  # the event loop turns meanwhile
        assert began.is_set()
        following.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await following

    asyncio.run(serve())
    assert not released.is_set()
    released.set()


def test_a_second_sigquit_does_not_interrupt_the_first(monkeypatch: pytest.MonkeyPatch) -> None:
    removed = asyncio.Event()

    async def remove() -> None:
        await removed.wait()

    def leave(code: int) -> None:
        assert removed.is_set()
        raise EOFError(code)

    async def quit_twice() -> None:
        following = Sync(CorefileMaker(Options(), {}))
        following._quit()
        await asyncio.sleep(0)
        following._quit()
        removed.set()
        assert following._quitting is not None
        with pytest.raises(EOFError):
            await following._quitting

    monkeypatch.setattr(sync, "remove_everything", remove)
    monkeypatch.setattr("corepy_nodecache.node_cache.sync.os._exit", leave)
    asyncio.run(quit_twice())
