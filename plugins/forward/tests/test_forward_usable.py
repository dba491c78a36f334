"""One upstream that cannot be used costs the others nothing: at start, in a reload, later."""

import logging
import os
import socket
import threading

import dnslib
import pytest

from corepy.plugin import StartupError
from corepy.plugin.reading import file_version
from corepy.testing import Upstream, refusal, run_command, serve, set_up
from corepy.testing.command import wait_until
from corepy.testing.netns import isolated, run
from corepy_forward import targets, usable
from corepy_forward.handler import Forward
from corepy_forward.targets import Target, ToAddress
from corepy_forward.usable import choose, own_among

GOOD = "nameserver 127.0.0.1"

UNUSABLE = {
    "nameserver fe80::1%wlan9": "[fe80::1%wlan9]:53 is skipped until it can be used:"
    " network interface 'wlan9'",
    "nameserver fe80::1%4711": "network interface '4711'",
    "nameserver fe80::1%99999999999999999999": "network interface '9999",
    "nameserver fe80::1%an-interface-with-a-long-name": "network interface 'an-inter",
    "nameserver fe80::1%caf\u00e9": "network interface",
    "nameserver fe80::1": "a link-local address needs its network interface",
    "nameserver 192.0.2.1:53": "not an IP address",
    "nameserver": "nameserver without an address",
    "nameserver 255.255.255.255": "not the address of a single host",
}


def answers(address="192.0.2.1"):
    def behave(query, _proto):
        reply = query.reply()
        if query.q.qtype == 1:
            reply.add_answer(*dnslib.RR.fromZone(f"{query.q.qname} 60 IN A {address}"))
        return reply

    return behave


@pytest.fixture
def upstream(monkeypatch):
    """An upstream at all addresses of this machine, at the port that resolv.conf means."""
    with Upstream(answers(), host="::") as upstream:
        monkeypatch.setitem(targets.PORTS, "dns", upstream.address[1])
        yield upstream


@pytest.fixture(autouse=True)
def _quickly(monkeypatch):
    monkeypatch.setattr(usable, "INTERVAL", 0.02)
    monkeypatch.setattr(usable, "LOOK_UP_INTERVAL", 0.02)


class Lines(logging.Handler):
    """The lines of the log, for a test that waits for one."""

    def __init__(self):
        super().__init__()
        self.lines: list[str] = []
        self._more = threading.Condition()

    def emit(self, record):
        with self._more:
            self.lines.append(record.getMessage())
            self._more.notify_all()

    def wait_for(self, part: str, count: int = 1) -> str:
        def found() -> list[str]:
            return [line for line in self.lines if part in line]

        with self._more:
            assert self._more.wait_for(lambda: len(found()) >= count, 30), self.lines
        return found()[-1]


@pytest.fixture
def log():
    handler = Lines()
    logger = logging.getLogger("corepy")
    level = logger.level
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)
    yield handler
    logger.removeHandler(handler)
    logger.setLevel(level)


def pool_of(server):
    (forward,) = server.plugins(Forward)
    return forward.pool


def asked(server):
    return [each.target.address for each in pool_of(server).upstreams]


@pytest.mark.parametrize("line", UNUSABLE)
@pytest.mark.parametrize("first", [True, False])
def test_at_the_start(tmp_path, upstream, log, line, first):
    path = tmp_path / "resolv.conf"
    path.write_text("\n".join([line, GOOD] if first else [GOOD, line]) + "\n", encoding="utf-8")
    text = f"forward . {path}"
    with serve(f".:0 {{\n{text}\n}}") as server:
        assert server.ask("example.org").rr
        assert asked(server) == [f"127.0.0.1:{upstream.address[1]}"]
    said = [w.message for w in set_up(text).warnings]
    said += [message for message in log.lines if "skipped" in message]
    reason = UNUSABLE[line].replace(":53 is", f":{upstream.address[1]} is")
    (problem,) = [message for message in said if reason in message]
    assert problem.startswith(f"{path}:{1 if first else 2}: ")


@pytest.mark.parametrize("line", UNUSABLE)
def test_in_a_file_that_changes(tmp_path, upstream, log, line):
    """Told once, however often the file is looked at; the good server is taken."""
    path = tmp_path / "resolv.conf"
    path.write_text("nameserver 127.0.0.9\n")
    with serve(f".:0 {{\nforward . {path}\n}}") as server:
        new = tmp_path / "new"
        new.write_text(f"{line}\n{GOOD}\n", encoding="utf-8")
        os.replace(new, path)
        log.wait_for(f"upstreams are now 127.0.0.1:{upstream.address[1]}")
        assert server.ask("example.org").rr
        new.write_text(f"{line}\nnameserver ::1\n", encoding="utf-8")
        os.replace(new, path)
        log.wait_for(f"upstreams are now [::1]:{upstream.address[1]}")
    reason = UNUSABLE[line].replace(":53 is", f":{upstream.address[1]} is")
    assert [message.startswith(f"{path}:1: ") for message in log.lines if reason in message] == [
        True
    ]


def test_zone_of_an_address_that_is_not_link_local(tmp_path, upstream):
    path = tmp_path / "resolv.conf"
    path.write_text("nameserver ::1%en0\n")
    for to in (str(path), f"::1%en0 {path}", f"[::1%en0]:{upstream.address[1]}"):
        with serve(f".:0 {{\nforward . {to}\n}}") as server:
            assert server.ask("example.org").rr
            assert asked(server) == [f"[::1]:{upstream.address[1]}"]


@pytest.mark.parametrize(
    "to", ["fe80::1%wlan9", "[fe80::1%wlan9]:5353", "fe80::1", "tls://fe80::1", "255.255.255.255"]
)
def test_in_the_corefile(upstream, to):
    with serve(f".:0 {{\nforward . {to} {upstream.to.replace('::', '[::1]')}\n}}") as server:
        assert server.ask("example.org").rr


@pytest.mark.parametrize("to", ["fe80::1", "tls://fe80::1", "224.0.0.1", "https://ff02::1"])
def test_nothing_is_left_of_the_corefile(to):
    refused = refusal(f"forward . {to}")
    assert refused.message == "no valid upstream addresses found"
    assert refused.hint is not None
    assert "this upstream is skipped" in refused.hint


def test_nothing_is_left_at_the_start(tmp_path):
    path = tmp_path / "resolv.conf"
    path.write_text("nameserver fe80::1%wlan8\nnameserver fe80::1%wlan9\n")
    set_up(f"forward . {path}")  # a check knows nothing of the host
    with pytest.raises(StartupError) as caught, serve(f".:0 {{\nforward . {path}\n}}"):
        pass
    for number, name in ((1, "wlan8"), (2, "wlan9")):
        assert f"{path}:{number}: [fe80::1%{name}]:53 is skipped" in str(caught.value)


def test_a_reload_with_an_unusable_line_and_one_with_nothing_else(tmp_path, upstream):
    path = tmp_path / "resolv.conf"
    path.write_text(f"{GOOD}\n")
    text = f".:0 {{\nforward . {path}\n}}"
    with serve(text) as server:
        path.write_text(f"{GOOD}\nnameserver fe80::1%wlan9\n")
        server.reload(text)
        assert server.ask("example.org").rr
        path.write_text("nameserver fe80::1%wlan9\n")
        with pytest.raises(StartupError, match="wlan9"):
            server.reload(text)
        assert server.ask("example.org").rr


@isolated
def test_an_interface_that_comes_goes_and_comes_again(tmp_path, monkeypatch, log):
    """Its number is another one the second time."""
    monkeypatch.setattr(usable, "INTERVAL", 0.02)
    with Upstream(answers(), host="::") as upstream:
        monkeypatch.setitem(targets.PORTS, "dns", upstream.address[1])
        path = tmp_path / "resolv.conf"
        path.write_text("nameserver 192.0.2.9\nnameserver fe80::9%br9\n")
        text = f".:0 {{\nforward . {path} {{\npolicy sequential\nmax_fails 0\n}}\n}}"
        with serve(text) as server:
            log.wait_for("network interface 'br9'")
            numbers = set()
            for round in (1, 2):
                run("ip", "link", "add", "br9", "type", "bridge")
                run("ip", "link", "set", "br9", "up")
                run("ip", "addr", "add", "fe80::9/64", "dev", "br9", "nodad")
                log.wait_for("[fe80::9%br9]", 2 * round)
                (link,) = [u for u in pool_of(server).upstreams if u.target.scope]
                numbers.add(link.target.interface)
                assert link.target.interface == socket.if_nametoindex("br9")
                # The kernel finishes to set up the address and its route later.
                wait_until(lambda: server.ask("example.org").rr)
                run("ip", "link", "del", "br9")
                log.wait_for("network interface 'br9'", round + 1)
            assert len(numbers) == 2


def test_an_own_address_in_a_file_is_skipped(tmp_path, monkeypatch, log):
    """Users meet it where the node's resolv.conf has the address of the cache that reads it."""
    path, new = tmp_path / "resolv.conf", tmp_path / "new"
    path.write_text("nameserver 127.0.0.2\nnameserver 127.0.0.53\n")
    with Upstream(answers(), host="127.0.0.2") as upstream:
        port = upstream.address[1]
        monkeypatch.setitem(targets.PORTS, "dns", port)
        text = f".:{port} {{\nbind 127.0.0.53\nforward . {path}\n}}"
        problem = "127.0.0.53:{} is this server itself; the line is skipped".format
        with serve(text) as server:
            assert server.ask("example.org").rr
            assert asked(server) == [f"127.0.0.2:{port}"]
            new.write_text("nameserver 127.0.0.53\nnameserver 127.0.0.3\nnameserver 127.0.0.2\n")
            os.replace(new, path)
            log.wait_for(f"upstreams are now 127.0.0.3:{port} 127.0.0.2:{port}")
            assert f"{path}:1: {problem(port)}" in log.lines
            new.write_text("nameserver 127.0.0.53\n")
            os.replace(new, path)
            log.wait_for("its last name servers stay in use")
            assert asked(server) == [f"127.0.0.3:{port}", f"127.0.0.2:{port}"]
        refused = refusal(f"forward . {path}", f".:{port}", hosts=["127.0.0.53"])
        assert refused.hint == f"{path}:1: {problem(port)}"
        path.write_text("nameserver 127.0.0.2\nnameserver 127.0.0.53\n")
        (warning,) = set_up(f"forward . {path}", f".:{port}", hosts=["127.0.0.53"]).warnings
        assert warning.message == f"{path}:2: {problem(port)}"


def test_the_unspecified_address_is_the_loopback_address(tmp_path):
    """A socket that is connected to it reaches this machine."""
    for own, other in (("127.0.0.1", "0.0.0.0"), ("::1", "::")):
        assert own_among([Target(other, 53)], [(own, 53)]) is not None
        assert own_among([Target(other, 53)], [("192.0.2.1", 53)]) is None


def test_a_file_without_name_servers_at_the_start_is_looked_at_again(tmp_path, upstream, log):
    path = tmp_path / "resolv.conf"
    path.write_text("# not yet\n")
    port = upstream.address[1]
    with serve(f".:0 {{\nforward . {path} 127.0.0.1\n}}") as server:
        assert asked(server) == [f"127.0.0.1:{port}"]
        path.write_text("nameserver ::1\n")
        log.wait_for(f"upstreams are now [::1]:{port} 127.0.0.1:{port}")


def test_a_file_that_is_being_written_or_gone(tmp_path, upstream, log):
    """The name servers that were read last stay in use, and each fault is told once."""
    path, new = tmp_path / "resolv.conf", tmp_path / "new"
    path.write_text("nameserver ::1\n")
    port = upstream.address[1]
    stays = "; its last name servers stay in use"
    with serve(f".:0 {{\nforward . {path}\n}}") as server:
        new.write_text("# being written\n")
        os.replace(new, path)
        log.wait_for(f"Corefile:2: {path} contains no usable name servers{stays}")
        path.unlink()
        os.mkfifo(path)
        log.wait_for(f"cannot read '{path}': not a regular file but a FIFO{stays}")
        path.unlink()
        path.mkdir()
        log.wait_for(f"cannot read '{path}': Is a directory{stays}")
        assert server.ask("example.org").rr
        path.rmdir()
        path.write_text(f"{GOOD}\n")
        log.wait_for(f"upstreams are now 127.0.0.1:{port}")
        assert server.ask("example.org").rr
    assert sum(stays in line for line in log.lines) == 3


def test_a_change_before_the_watch_begins(tmp_path, upstream, log):
    """The file is compared with what was read, not with its state when the server starts."""
    path = tmp_path / "resolv.conf"
    path.write_text("nameserver 127.0.0.9\n")
    os.utime(path, (1, 1))
    (forward,) = set_up(f"forward . {path}").handlers
    assert isinstance(forward, Forward)
    (entry,) = forward.settings.entries
    before = entry.version
    assert before is not None
    assert before == file_version(path)
    path.write_text("nameserver 127.0.0.8\n")
    assert file_version(path) != before


def test_a_host_name_that_cannot_be_looked_up(upstream, log):
    """The others serve; it is tried again until it is found."""
    known = threading.Event()

    def behave(query, proto):
        return answers("127.0.0.1")(query, proto) if known.is_set() else query.reply()

    port = upstream.address[1]
    with Upstream(behave) as resolver:
        text = f"forward . dns.example:{port} [::1]:{port} {{\nresolver {resolver.to}\n}}"
        with serve(f".:0 {{\n{text}\n}}") as server:
            assert 'failed to resolve "dns.example": no addresses found' in log.lines
            assert server.ask("example.org").rr
            assert asked(server) == [f"[::1]:{port}"]
            known.set()
            log.wait_for(f"upstreams are now 127.0.0.1:{port} [::1]:{port}")
    assert log.lines.count('failed to resolve "dns.example": no addresses found') == 1


def test_names_that_a_resolver_library_refuses(log):
    """The codec of asyncio's getaddrinfo raises UnicodeError for these."""
    name = f"{'a' * 60}.\u00e9{'b' * 60}.example"
    with (
        pytest.raises(StartupError, match="failed to resolve"),
        serve(f".:0 {{\nforward . {name}\n}}"),
    ):
        pass


@pytest.mark.parametrize(
    ("to", "hint"),
    [
        ("a" * 300, "not an IP address, file, or valid domain"),
        (f"{'a.' * 150}", "not an IP address, file, or valid domain"),
        (f"/{'a' * 300}", "no such file"),
        (f"/{'a/' * 3000}", "no such file"),
        (f"dns://{'a' * 300}", "not an IP address, file, or valid domain"),
        ("tls://192.0.2.1%.", "not a server name for TLS"),
        ("tls://192.0.2.1%.example", "not a server name for TLS"),
        (f"tls://192.0.2.1%{'a' * 300}", "not a server name for TLS"),
    ],
)
def test_words_that_are_nothing(to, hint):
    assert hint in refusal(f"forward . {to}").message


def test_last_targets_stay_only_while_nothing_else_of_the_entry_can_be_used():
    good, missing = Target("192.0.2.1", 53), Target("fe80::1", 53, scope="wlan9")
    entry = ToAddress("conf", [good])
    assert choose([entry], []).targets == [good]
    entry.targets = [missing]
    assert choose([entry], []).targets == [good]
    entry.targets = [missing, Target("192.0.2.2", 53)]
    assert choose([entry], []).targets == [Target("192.0.2.2", 53)]


def test_check_and_start_of_the_real_command(tmp_path):
    """As it was reported: a good line and two of a laptop that has gone elsewhere."""
    path = tmp_path / "resolv.conf"
    path.write_text("nameserver 127.0.0.1\nnameserver fe80::1%wlan9\nnameserver 2001:db8::1%en0\n")
    with run_command(f".:0 {{\nbind 127.0.0.1\nforward . {path}\n}}") as command:
        command.wait_for(f"{path}:2: [fe80::1%wlan9]:53 is skipped until it can be used")
