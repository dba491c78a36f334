"""The table of transports, and one of another distribution: served like plain DNS, without a line in the core."""

import asyncio
import importlib
import logging
import os
import re
import shutil
import signal
import socket
import sys
from copy import copy
from pathlib import Path

import dnslib
import pytest

from corepy.commands.corefile_blocks import controllers_of
from corepy.corefile import CorefileError, parse
from corepy.net.inherited import Key, claim, is_plain, take
from corepy.net.sockets import Address, open_tcp
from corepy.plugin import StartupError, control_client
from corepy.plugin.control_client import ask
from corepy.server.build.builder import build
from corepy.server.listen import transports
from corepy.server.selfcheck import unanswered
from corepy.testing import (
    Recorder,
    free_port,
    http_get,
    install,
    run_command,
    serve,
    with_handlers,
)
from corepy.testing.client import exchange, query
from corepy.testing.command import wait_until
from corepy.testing.listening import children, listening
from corepy.testing.open_descriptors import open_files

SOURCE = Path(__file__).with_name("framed_transport.py")
RECORDS = 'template IN A {\n answer "{{ .Name }} 60 IN A 192.0.2.%d"\n}'
WAIT = 60.0

WHO = """\
import os
from corepy.dns.records import rr
from corepy.plugin import Cacheability, Handler

api_version = 1

class Who(Handler):
    name, cacheability = "who", Cacheability.SAFE

    async def serve_dns(self, request):
        pid = os.getpid().to_bytes(4, "big")
        return request.reply(answer=[rr(request.question[:-4], 1, 0, pid, 1)])

def setup(controller):
    for _ in controller.occurrences():
        controller.add_handler(Who())
"""


def offer(folder, distribution="framed", **entries):
    """Install the transports of `entries`, such as framed="TRANSPORT"; return the environment."""
    shutil.copy(SOURCE, folder / SOURCE.name)
    info = folder / f"{distribution}-1.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {distribution}\nVersion: 1\n")
    lines = [f"{scheme} = framed_transport:{name}" for scheme, name in entries.items()]
    (info / "entry_points.txt").write_text("\n".join(["[corepy.transports]", *lines, ""]))
    return {
        "PYTHONPATH": os.pathsep.join([str(folder), *filter(None, [os.environ.get("PYTHONPATH")])])
    }


@pytest.fixture
def env(tmp_path):
    """The environment of a command that has the transport framed://."""
    return offer(tmp_path, framed="TRANSPORT")


@pytest.fixture
def here(tmp_path, monkeypatch):
    """A function that installs transports for this process."""
    monkeypatch.setattr(transports, "_loaded", {})
    monkeypatch.syspath_prepend(tmp_path)
    yield lambda distribution="framed", **entries: offer(tmp_path, distribution, **entries)
    sys.modules.pop("framed_transport", None)


@pytest.fixture
def framed(here):
    here(framed="TRANSPORT")


@pytest.mark.usefixtures("framed")
def test_a_command_reads_its_keys_as_the_server_does(tmp_path):
    path = tmp_path / "Corefile"
    path.write_text("framed://example.org {\n whoami\n}\n")
    (controller,) = controllers_of(str(path), "whoami")
    assert [str(key) for key in controller.config.keys] == ["framed://example.org.:5300"]


class Client:
    """A connection to a framed:// server."""

    def __init__(self, address, timeout=WAIT):
        self.sock = socket.create_connection(address, timeout)

    def __enter__(self):
        return self

    def __exit__(self, *error):
        self.sock.close()

    def send(self, name="www.example.org.", ident=7):
        wire = query(name, id=ident)
        self.sock.sendall(b"*" + len(wire).to_bytes(2, "big") + wire)

    def receive(self):
        header = self.sock.recv(3, socket.MSG_WAITALL)
        if not header:
            raise EOFError
        assert header[:1] == b"*"
        size = int.from_bytes(header[1:], "big")
        return dnslib.DNSRecord.parse(self.sock.recv(size, socket.MSG_WAITALL))

    def ask(self, name="www.example.org."):
        self.send(name)
        return str(self.receive().rr[0].rdata)


def ask_once(address, name="www.example.org."):
    with Client(address) as client:
        return client.ask(name)


def block(number=1, scheme="framed", port=0, *directives):
    body = "\n".join(["bind 127.0.0.1", "cache", *directives, RECORDS % number])
    return f"{scheme}://.:{port} {{\n{body}\n}}\n"


def test_the_modules_in_the_tree_serve_their_schemes():
    assert transports.IN_TREE
    for scheme in transports.IN_TREE:
        assert transports.get(scheme).scheme == scheme
    dns = transports.get("dns")
    assert (dns.networks, dns.default_port, dns.prefix) == (("udp", "tcp"), None, "")
    assert [dns.protocol(network) for network in ("udp", "tcp")] == ["udp", "tcp"]


def mistakes(text):
    with pytest.raises(CorefileError) as caught:
        build(parse(text, schemes=transports.KNOWN))
    return [str(mistake.message) for mistake in caught.value.diagnostics]


def test_a_scheme_of_coredns_without_a_transport_is_refused():
    served = ", ".join(f"{scheme}://" for scheme in transports.IN_TREE)
    text = "unix://. {\n whoami\n}\n"
    assert mistakes(text) == [f"corepy does not serve unix:// (only {served})"]


def test_another_scheme_is_part_of_a_zone_as_in_coredns():
    generation = build(parse("framed://a {\n whoami\n}\n", schemes=transports.KNOWN), 53)
    (listen,) = generation.routers
    assert listen == ("dns", "", 53)
    (warning,) = generation.warnings
    assert "scheme included" in warning.message


def test_the_default_port_is_that_of_the_transport(framed):
    generation = build(parse("framed://. {\n whoami\n}\n", schemes=transports.KNOWN), 53)
    (listen,) = generation.routers
    assert listen == ("framed", "", 5300)
    assert not generation.warnings


def test_the_transport_refuses_a_block(framed):
    text = "framed://.:1 {\n whoami\n debug\n}\n"
    assert mistakes(text) == ["cannot serve framed://.:1: framed:// blocks cannot be debugged"]


def test_two_transports_cannot_have_one_socket(framed):
    text = block(port=5353) + block(scheme="dns", port=5353) + block(scheme="dns", port=5354)
    assert mistakes(text) == [
        "cannot serve dns://.:5353: framed://127.0.0.1:5353 uses tcp port 5353"
    ]


@pytest.mark.parametrize(
    ("entries", "problem"),
    [
        ({"framed": "MISSING"}, "(from framed) cannot be imported: AttributeError"),
        ({"framed": "BARE"}, "(from framed) is not a Transport of this scheme"),
        ({"other": "TRANSPORT"}, "(from framed) is not a Transport of this scheme"),
    ],
)
def test_a_transport_that_cannot_be_used_is_a_mistake_at_the_key(here, entries, problem):
    here(**entries)
    (scheme,) = entries
    (message,) = mistakes(f"{scheme}://.:1 {{\n whoami\n}}\n")
    assert message.startswith(f"the transport {scheme}://")
    assert problem in message


@pytest.mark.parametrize(
    ("scheme", "problem"),
    [
        ("port", "has a default port that is not one: '5300'"),
        ("empty", "has no tuple of listeners"),
        ("listener", "has a listener that is not a subclass of Listener: <class "),
        ("twice", "needs at most one udp and one tcp socket, not ['tcp', 'tcp']"),
    ],
)
def test_a_transport_with_an_unusable_field_is_a_mistake_at_the_key(here, scheme, problem):
    here(**{scheme: scheme.upper()})
    (message,) = mistakes(f"{scheme}://. {{\n whoami\n}}\n")
    assert message.startswith(f"the transport {scheme}:// (from framed) {problem}")


def test_a_transport_whose_check_of_a_block_fails_is_a_mistake_at_the_key(here):
    here(checks="CHECKS")
    assert mistakes("checks://.:1 {\n whoami\n}\n") == [
        "cannot serve checks://.:1: the transport checks:// failed: ValueError: no certificate"
    ]


@pytest.mark.parametrize("scheme", ["opens", "half", "swaps", "closes"])
def test_a_reload_to_a_transport_that_fails_keeps_the_old_configuration(here, scheme):
    here(framed="TRANSPORT", **{scheme: scheme.upper()})
    port, other, added = free_port(), free_port(), free_port()
    with serve(block(1, port=port)) as server:
        endpoints = dict(server.server.endpoints)
        (generation,) = server.server.generations
        new = block(2, port=port) + block(3, "dns", added) + block(4, scheme, other)
        with pytest.raises(StartupError, match=r"ValueError: no certificate \(at .* in "):
            server.reload(new)
        assert ask_once(server.address) == "192.0.2.1"
        assert server.server.endpoints == endpoints
        assert server.server.generations == [generation]
        for left in (added, other):
            assert not listening(left)
        server.reload(block(2, port=port) + block(3, "dns", added))
        assert ask_once(server.address) == "192.0.2.2"


def test_a_transport_that_exits_is_a_mistake_at_the_key(here):
    here(exits="EXITS")
    assert mistakes("exits://.:1 {\n whoami\n}\n") == [
        "cannot serve exits://.:1: the transport exits:// failed: SystemExit: no"
    ]


@pytest.fixture
def faults(here, monkeypatch):
    """The exceptions that the listeners of faulty:// are about to raise."""
    here(framed="TRANSPORT", faulty="FAULTY", swaps="SWAPS")
    monkeypatch.setattr(logging.getLogger("corepy"), "propagate", True)
    return importlib.import_module("framed_transport").FAULTS


# Each test raises copies: a traceback would keep the sockets of another test open.
ENDS = [ValueError("boom"), SystemExit(3), KeyboardInterrupt(), asyncio.CancelledError()]


@pytest.mark.parametrize("error", ENDS, ids=lambda error: type(error).__name__)
@pytest.mark.parametrize("method", ["swap", "start", "waiting", "check"])
def test_a_listener_that_raises_at_a_reload_keeps_the_old_configuration(faults, method, error):
    port, other, added = free_port(), free_port(), free_port()
    with serve(block(1, port=port)) as server:
        endpoints, before = dict(server.server.endpoints), open_files()
        (generation,) = server.server.generations
        faults[method] = [copy(error)]
        new = block(2, port=port) + block(3, "dns", added) + block(4, "faulty", other)
        if method == "waiting":  # there is no reason to refuse the reload
            server.reload(new)
            assert ask_once(server.address) == "192.0.2.2"
            server.reload(block(1, port=port))
        else:
            with pytest.raises(StartupError):
                server.reload(new)
            assert ask_once(server.address) == "192.0.2.1"
            assert server.server.generations == [generation]
        assert server.server.endpoints == endpoints
        wait_until(lambda: open_files() <= before)
        server.reload(block(2, port=port))
        assert ask_once(server.address) == "192.0.2.2"


@pytest.mark.parametrize("error", ENDS, ids=lambda error: type(error).__name__)
def test_a_listener_that_raises_in_a_rollback_goes_back(faults, error, caplog):
    """So do the listeners after it, and the sockets of the refused configuration are closed."""
    first, second, added, failing = (free_port() for _ in range(4))
    old = block(1, "faulty", first) + block(1, port=second)
    with serve(old) as server:
        endpoints, before = dict(server.server.endpoints), open_files()
        (generation,) = server.server.generations
        faults["swap"] = [None, copy(error)]
        new = block(2, "faulty", first) + block(2, port=second)
        with pytest.raises(StartupError, match="no certificate"):
            server.reload(new + block(3, "dns", added) + block(4, "swaps", failing))
        assert [ask_once(address) for address in server.addresses] == ["192.0.2.1"] * 2
        assert server.server.endpoints == endpoints
        assert server.server.generations == [generation]
        wait_until(lambda: open_files() <= before)
        server.reload(new)
        assert [ask_once(address) for address in server.addresses] == ["192.0.2.2"] * 2
    assert "swap of the listener failed" in caplog.text


@pytest.mark.parametrize("error", ENDS, ids=lambda error: type(error).__name__)
@pytest.mark.parametrize("method", ["waiting", "stop", "is_drained", "close", "forget"])
def test_a_listener_that_raises_when_it_is_no_longer_used(faults, method, error, caplog):
    port, gone = free_port(), free_port()
    with serve(block(1, port=port)) as server:
        before = open_files()
        server.reload(block(1, port=port) + block(1, "faulty", gone))
        assert ask_once(("127.0.0.1", gone)) == "192.0.2.1"
        faults[method] = [copy(error) for _ in range(3)]
        server.reload(block(2, port=port))
        faults.clear()
        assert ask_once(server.address) == "192.0.2.2"
        assert not listening(gone)
        assert len(server.server.generations) == 1
        wait_until(lambda: open_files() <= before)
    assert "of the listener failed" in caplog.text


@pytest.mark.parametrize("error", ENDS, ids=lambda error: type(error).__name__)
@pytest.mark.parametrize("method", ["waiting", "stop", "is_drained", "close", "forget"])
def test_a_listener_that_raises_when_the_server_stops(faults, method, error):
    ports = free_port(), free_port()
    with serve(block(1, "faulty", ports[0]) + block(1, port=ports[1])) as server:
        assert [ask_once(address) for address in server.addresses] == ["192.0.2.1"] * 2
        faults[method] = [copy(error) for _ in range(3)]
    faults.clear()
    assert server.server.generation is None
    assert not server.server.endpoints
    for port in ports:
        assert not listening(port)


@pytest.mark.parametrize("error", ENDS, ids=lambda error: type(error).__name__)
def test_a_listener_that_refuses_a_connection_closes_it(faults, error):
    with serve(block(1, "faulty", free_port())) as server:
        assert ask_once(server.address) == "192.0.2.1"
        wait_until(
            lambda: not next(iter(server.server.endpoints.values())).listeners[0].connections
        )
        before = server.call(open_files)  # between callbacks: one forgets a connection, closes it
        faults["new_connection"] = [copy(error)]
        with Client(server.address) as client, pytest.raises((EOFError, ConnectionError)):
            client.receive()
        wait_until(lambda: open_files() <= before)
        assert ask_once(server.address) == "192.0.2.1"


@pytest.mark.parametrize("error", ENDS, ids=lambda error: type(error).__name__)
@pytest.mark.parametrize("method", ["start", "pause"])
def test_a_listener_that_raises_at_the_sockets_of_another_process(faults, method, error, caplog):
    with serve(block(1, "faulty", free_port())) as server:
        (listen,) = server.server.endpoints

        def take_over_and_hand_back():
            port = server.server.endpoints[listen].port
            shared = server.server.new_endpoint(listen, {}, port, 1)
            generation = server.server.generation
            shared.swap(generation.routers[listen], generation.settings[listen])
            server.server.shared[listen, 1] = shared
            faults[method] = [copy(error)]
            server.server.take_over_shard(1)
            server.server.hand_back_shard(1)

        server.call(take_over_and_hand_back)
    assert f"{method} of the listener failed" in caplog.text


def test_two_distributions_that_offer_a_scheme_are_a_mistake(here, tmp_path):
    here("first", framed="TRANSPORT")
    here("second", framed="TRANSPORT")
    assert mistakes("framed://.:1 {\n whoami\n}\n") == [
        "framed:// is offered by first, second; remove all but one"
    ]


def test_it_is_served_beside_plain_dns_and_over_its_own_framing_only(framed):
    with serve(block(1) + block(2, "dns")) as server:
        own, plain = server.addresses
        assert ask_once(own) == "192.0.2.1"
        assert b"\xc0\0\x02\x02" in exchange(plain, query("www.example.org."), tcp=True)
        with pytest.raises(ConnectionError):
            exchange(own, query("www.example.org."), tcp=True)
        with pytest.raises(ConnectionError):
            exchange(own, query("www.example.org."))


def test_it_has_a_packet_cache_of_its_own(framed):
    with serve(block()) as server:
        (endpoint,) = server.server.endpoints.values()
        (listener,) = endpoint.listeners
        for _ in range(3):  # a miss, a hit in *cache*, a hit in the packet cache
            ask_once(server.address)
        (entry,) = server.call(lambda: list(listener.pipeline.packets.entries.values()))
        assert entry.hits == 1


def test_a_dropped_query_leaves_the_connection_to_the_others(framed):
    drop = with_handlers(drop=lambda: Recorder(lambda request: request.drop()))
    text = "framed://.:0 {\n bind 127.0.0.1\n cache\n" + RECORDS % 1 + "\n drop\n}\n"
    text = text.replace("IN A {", "IN A {\n match ^www\n fallthrough")
    served = serve(text, plugins=drop, order="drop after template")
    with served as server, Client(server.address) as client:
        client.send("drop.example.org.", 8)
        client.send("www.example.org.", 9)
        assert client.receive().header.id == 9


def test_the_self_check_leaves_it_out(framed):
    """It has no client for it: a server that only it could check starts, and is healthy."""
    with serve(block() + block(2, "dns")) as server:
        endpoints = server.server.endpoints.values()
        checked = [
            listener.protocol
            for it in endpoints
            for listener in it.listeners
            if listener.is_checkable
        ]
        assert checked == ["udp", "tcp"]
        silent = asyncio.run_coroutine_threadsafe(unanswered(endpoints, WAIT), server._loop)
        assert silent.result(WAIT) == []


def test_a_reload_keeps_its_connections_and_sockets(framed):
    port = free_port()
    with serve(block(1, port=port)) as server, Client(server.address) as client:
        (endpoint,) = server.server.endpoints.values()
        assert client.ask() == "192.0.2.1"
        server.reload(block(2, port=port))
        assert client.ask() == "192.0.2.2"
        assert list(server.server.endpoints.values()) == [endpoint]
        server.reload(block(3, "dns"))
        with pytest.raises(EOFError):
            client.receive()
        with pytest.raises(ConnectionRefusedError):
            Client((endpoint.listen.host, port))


def test_explain_asks_it(framed, tmp_path, monkeypatch):
    monkeypatch.setenv("RUNTIME_DIRECTORY", str(tmp_path))
    monkeypatch.setattr(control_client, "folders", lambda: [tmp_path])
    with serve(block(1) + block(2, "dns"), control=True) as server:
        labels = [endpoint.label for endpoint in server.server.endpoints.values()]
        for _ in range(2):
            ask_once(server.address)
        (path,) = control_client.sockets()
        for label, protocol in zip(labels, ("framed", "udp"), strict=True):
            found = ask(
                path, "explain", {"name": "www.example.org.", "at": label, "edns": 0, "times": 2}
            )
            assert (found["server"], found["question"]["protocol"]) == (label, protocol)
            assert found["packet_cache"]["admitted"], found["packet_cache"]
            assert ("holds" in found["packet_cache"]) == (protocol == "framed")


def test_the_banner_and_the_metrics_name_it(env):
    port, metrics = free_port(), free_port()
    text = block(1, "framed", port, f"prometheus 127.0.0.1:{metrics}")
    with run_command(text, env=env) as command:
        command.wait_for(f"framed://127.0.0.1:{port}: packet cache on")
        assert f"framed://.:{port} on 127.0.0.1" in command.lines
        for name in ("a.example.", "b.example."):
            ask_once(("127.0.0.1", port), name)
        page = http_get(metrics, "/metrics").text
        series = re.findall(r"^coredns_dns_requests_total\{(.*)\} 2", page, re.MULTILINE)
        assert len(series) == 1
        assert f'server="framed://127.0.0.1:{port}"' in series[0]
        assert 'proto="tcp"' in series[0]


@pytest.fixture
def supervised(env):
    with run_command(block(port=free_port()), "-supervise", env=env) as command:
        command.wait_for(" serves")
        yield command


def the_worker(command):
    wait_until(lambda: len(children(command.process.pid)) == 1)
    return children(command.process.pid)[0]


def test_a_connection_waits_for_the_next_worker_of_a_supervisor(supervised):
    """The listening socket outlives its process: nothing is refused, and it is the same one."""
    sockets = listening(supervised.address[1])
    assert len(sockets) == 1
    for turn in range(2):
        os.kill(the_worker(supervised), signal.SIGKILL)
        assert ask_once(supervised.address) == "192.0.2.1"
        supervised.wait_for(" serves", times=turn + 2)
    assert listening(supervised.address[1]) == sockets
    assert "no reply at" not in supervised.output


def test_an_upgrade_hands_it_over(supervised):
    sockets, before = listening(supervised.address[1]), the_worker(supervised)
    with Client(supervised.address) as old:
        assert old.ask()
        supervised.send_signal(signal.SIGHUP)
        supervised.wait_for(f"stopping {before}")
        assert ask_once(supervised.address) == "192.0.2.1"
        wait_until(lambda: before not in children(supervised.process.pid))
        with pytest.raises(EOFError):
            old.receive()
    assert listening(supervised.address[1]) == sockets


def test_a_supervised_reload_adds_and_removes_it(supervised):
    port, other = supervised.address[1], free_port()
    supervised.conf.write_text(block(2, port=other))
    supervised.send_signal(signal.SIGUSR1)
    supervised.wait_for("Reloading complete")
    assert ask_once(("127.0.0.1", other)) == "192.0.2.2"
    wait_until(lambda: not listening(port))
    os.kill(the_worker(supervised), signal.SIGKILL)
    assert ask_once(("127.0.0.1", other)) == "192.0.2.2"


def test_the_processes_of_a_server_share_its_address(env, tmp_path):
    (tmp_path / "who").mkdir()
    who = install(tmp_path / "who", "who", WHO)
    env = {"PYTHONPATH": f"{who['PYTHONPATH']}:{env['PYTHONPATH']}"}
    text = f"framed://.:{free_port()} {{\n bind 127.0.0.1\n multisocket 2\n who\n}}\n"
    with run_command(text, env=env) as command:
        wait_until(lambda: len(children(command.process.pid)) == 1)
        pids = {command.process.pid, *children(command.process.pid)}
        seen = set()

        def both_answer():
            address = ask_once(command.address)
            seen.add(int.from_bytes(socket.inet_aton(address), "big"))
            return seen == pids

        wait_until(both_answer)
        assert len(listening(command.address[1])) == 2


def test_a_listener_that_fails_in_another_process_leaves_no_descriptors(tmp_path):
    """Neither its own, nor those of the addresses after it, which the process has received, too."""
    env = offer(tmp_path, framed="TRANSPORT", follows="FOLLOWS")
    old = block(1, "framed", free_port(), "multisocket 2")
    new = block(1, "follows", free_port(), "multisocket 2") + block(
        1, "dns", free_port(), "multisocket 2"
    )
    with run_command(old, env=env) as command:
        wait_until(lambda: len(children(command.process.pid)) == 1)
        (follower,) = children(command.process.pid)
        folder = Path(f"/proc/{follower}/fd")
        before = len(os.listdir(folder))
        for turn in range(1, 3):
            command.conf.write_text(old + new)
            command.send_signal(signal.SIGUSR1)
            command.wait_for("reload failed, the old configuration stays", times=turn)
            wait_until(lambda: len(os.listdir(folder)) == before)
            assert ask_once(command.address) == "192.0.2.1"
        assert children(command.process.pid) == [follower]
    assert "process 1: SystemExit: no certificate" in command.output


def test_a_transport_of_one_process_has_one_socket(here):
    here(alone="ALONE", framed="TRANSPORT")
    text = block(1, "alone", 1, "multisocket 2") + block(2, "framed", 2, "multisocket 2")
    generation = build(parse(text, schemes=transports.KNOWN))
    assert {listen.transport: count for listen, count in generation.sockets.items()} == {
        "alone": 1,
        "framed": 2,
    }


@pytest.mark.parametrize("shard", [0, 3])
def test_the_name_of_a_kept_socket_has_its_scheme(shard, monkeypatch):
    place = 700
    monkeypatch.setattr("corepy.net.inherited.FIRST_FD", place)
    with open_tcp(Address("127.0.0.1", 0)) as sock:
        address = Address("127.0.0.1", sock.getsockname()[1])
        key = Key("tcp", address, shard, "framed")
        assert key.name == f"framed-tcp-127.0.0.1-{address.port}" + ("-3" if shard else "")
        assert not is_plain(key.name)
        assert is_plain(key._replace(scheme="dns").name)
        os.dup2(sock.fileno(), place)
        names = {"LISTEN_FDS": "1", "LISTEN_PID": str(os.getpid()), "LISTEN_FDNAMES": key.name}
        found = take(names)
        assert set(found) == {key}
        assert claim(key._replace(scheme="dns"), found) is None
        inherited = claim(key, found)
        assert inherited is not None
        inherited.sock.close()
        assert not inherited.lent
        assert not found


def test_a_lent_socket_serves_any_transport(monkeypatch):
    """The unit of a service manager names it as it likes."""
    place = 700
    monkeypatch.setattr("corepy.net.inherited.FIRST_FD", place)
    with open_tcp(Address("127.0.0.1", 0)) as sock:
        os.dup2(sock.fileno(), place)
        key = Key("tcp", Address("127.0.0.1", sock.getsockname()[1]), 0, "framed")
        names = {"LISTEN_FDS": "1", "LISTEN_PID": str(os.getpid()), "LISTEN_FDNAMES": "a.socket"}
        inherited = claim(key, take(names))
        assert inherited is not None
        inherited.sock.close()
        assert inherited.lent
