"""Connections over QUIC while a server is reloaded, upgraded and stopped, and in several processes."""

import os
import signal
import time

import pytest

from corepy.net.batch import Batch
from corepy.net.plain import PlainBatch
from corepy.net.quic.datagram_relay import MOST_MESSAGES, Datagram, Relay
from corepy.server import server_sockets
from corepy.server.listen.quic_listener import PER_TURN
from corepy.testing import free_port, run_command
from corepy.testing.command import wait_until
from corepy.testing.helper_module import helper_module
from corepy.testing.listening import children
from corepy.testing.quic_peer import QUICPeer

servers = helper_module(__file__, "quic_servers")
load = helper_module(__file__, "quic_load")
ask, rcode, running = servers.ask, servers.rcode, servers.running

CLIENTS = int(os.environ.get("QUIC_CLIENTS", "6"))
TEMPLATE = 'template IN A {\n answer "{{ .Name }} 60 IN A 192.0.2.%d"\n}'


def text(files, port, number=1, *directives):
    lines = [f"tls {files.certificate} {files.key}", *directives, TEMPLATE % number]
    return f"quic://.:{port} {{\nbind 127.0.0.1\n" + "\n".join(lines) + "\n}\n"


@pytest.fixture
def files(tmp_path):
    return servers.certificate(tmp_path)


def test_a_reload_keeps_connections(files, tmp_path):
    port = free_port()
    with run_command(text(files, port)) as command:
        with load.Load(("127.0.0.1", port), files.authority, CLIENTS) as clients:
            clients.answer_each()
            command.conf.write_text(text(files, port, 2))
            command.send_signal(signal.SIGUSR1)
            clients.until(lambda: "Reloading complete" in command.output)
            clients.answer_each()
            assert clients.connections == CLIENTS
        with QUICPeer(("127.0.0.1", port), files.authority) as client:
            assert client.ask(ask())[-1] == 2


def test_an_upgrade_loses_no_query(files, tmp_path):
    """Each client is told to leave the old process, and continues with the new one."""
    port = free_port()
    env = {"RUNTIME_DIRECTORY": str(tmp_path)}
    with run_command(text(files, port), "-supervise", env=env) as command:
        command.wait_for(" serves")
        with load.Load(("127.0.0.1", port), files.authority, CLIENTS) as clients:
            clients.answer_each()
            (old,) = children(command.process.pid)
            command.send_signal(signal.SIGUSR2)
            clients.until(
                lambda: children(command.process.pid) and old not in children(command.process.pid)
            )
            clients.answer_each()
            assert clients.codes <= {0}
            assert clients.connections == 2 * CLIENTS


def test_a_client_of_a_killed_server_is_told_by_the_next_one(files):
    """The next process has the same key, and so the token that ends the connection."""
    port = free_port()
    with run_command(text(files, port)) as command:
        client = QUICPeer(("127.0.0.1", port), files.authority).connect()
        client.ask(ask())
        command.process.kill()
        command.process.wait()
    token = client.quic._peer_cid.stateless_reset_token
    with run_command(text(files, port)):
        client.query(ask())
        client.send()
        client.sock.settimeout(servers.WAIT)
        while client.sock.recv(2000)[-16:] != token:  # first what the killed one has sent
            pass
    client.sock.close()


def test_connections_of_several_processes_survive_a_changed_port(files):
    """The kernel then selects another process, which passes the datagrams on."""
    with run_command(text(files, 0, 1, "multisocket 2")) as command:
        address = command.address
        clients = [QUICPeer(address, files.authority).connect() for _ in range(6)]
        owners = {it.quic._peer_cid.cid[:4] for it in clients}
        assert len(owners) <= 2
        for turn in range(4):
            for client in clients:
                assert rcode(client.ask(ask(f"turn-{turn}"))) == 0
                client.rebind()
        for client in clients:
            client.__exit__()


@pytest.fixture
def relays():
    made = [Relay(), Relay()]
    yield made
    for relay in made:
        relay.close()


PEER = bytes(range(16))


def test_datagrams_are_passed_on(relays):
    one, two = relays
    sent = [Datagram(bytes((size % 256,)) * size, PEER, None) for size in (0, 1, 1500, 4096)]
    sent.append(Datagram(b"data", bytes(28), PEER, bytes(28)))
    for datagram in sent:
        one.queue(two.owner, datagram)
    assert one.flush() == []
    assert two.receive() == sent
    assert two.receive() == []


def test_many_datagrams_take_several_messages(relays):
    one, two = relays
    sent = [Datagram(bytes(1500), PEER, None)] * 64
    for datagram in sent:
        one.queue(two.owner, datagram)
    assert one.flush() == []
    assert two.receive() == sent


def test_datagrams_for_a_listener_that_is_gone_come_back(relays):
    one, two = relays
    two.close()
    one.queue(two.owner, Datagram(b"data", PEER, None))
    assert one.flush() == [Datagram(b"data", PEER, None)]
    assert one.flush() == []


def test_a_full_queue_drops_datagrams(relays):
    one, two = relays
    for _ in range(2000):
        one.queue(two.owner, Datagram(bytes(4000), PEER, None))
        assert one.flush() == []
    assert 0 < len(two.receive()) < 2000


@pytest.mark.parametrize(
    "message", [b"\1", b"\1\0\1\0\0", bytes(5), b"\xff\xff\1\0\0a" + bytes(90)]
)
def test_damaged_messages_are_dropped(relays, message):
    one, two = relays
    one.sock.sendto(message, "\0corepy-quic-" + two.owner.hex())
    assert two.receive() == []


def test_messages_of_other_users_are_dropped(relays, monkeypatch):
    one, two = relays
    one.queue(two.owner, Datagram(b"data", PEER, None))
    one.flush()
    monkeypatch.setattr(os, "geteuid", lambda: 12345)
    assert two.receive() == []


@pytest.mark.parametrize("batches", [Batch, PlainBatch])
def test_an_unknown_connection_of_another_listener_may_be_new(tmp_path, monkeypatch, batches):
    """A client chooses its first destination at random, so it may look like another listener's."""
    monkeypatch.setattr(server_sockets, "open_batch", batches)
    with running(tmp_path) as server:
        client = QUICPeer(server.address, server.files.authority)
        client.quic._peer_cid.cid = bytes(12)
        client.quic._original_destination_connection_id = bytes(12)
        client.quic._connect(0.0)
        client.quic._close_at = None
        with client:
            client.connect()
            assert rcode(client.ask(ask())) == 0


def test_a_server_that_stops_closes_idle_connections(tmp_path):
    with running(tmp_path) as server, server.connect() as client:
        client.ask(ask())
        server.call(server.listener.stop)
        assert client.close_code() == 0
        wait_until(lambda: server.call(lambda: server.listener.is_drained))
        with server.connect() as late:  # it still answers
            assert rcode(late.ask(ask())) == 0
            assert late.close_code() == 0


def test_a_paused_listener_keeps_its_connections(tmp_path):
    """As when a process answers at the sockets of another one for a while."""
    with running(tmp_path) as server, server.connect() as client:
        client.ask(ask())
        server.call(server.listener.pause)
        other = Relay()
        stream = client.query(ask("relayed"))
        sent = [data for data, _ in client.quic.datagrams_to_send(time.monotonic())]
        peer = server.call(lambda: next(iter(server.listener.connections)).peer)
        for data in sent:
            other.queue(server.listener.demultiplexer._relay.owner, Datagram(data, peer, None))
        assert other.flush() == []
        assert rcode(client.reply(stream)) == 0
        other.close()
        server.call(server.listener.start)


def test_relayed_datagrams_leave_turns_of_the_event_loop_to_others(tmp_path, monkeypatch, relays):
    sizes, other = [], relays[0]
    with running(tmp_path) as server:
        demultiplexer = server.listener.demultiplexer
        receive = demultiplexer.receive

        def note(datagrams, **more):
            sizes.append(receive(datagrams, **more))
            return sizes[-1]

        monkeypatch.setattr(demultiplexer, "receive", note)
        for _ in range(5 * PER_TURN):
            other.queue(demultiplexer._relay.owner, Datagram(b"?", PEER, None))
        assert other.flush() == []
        wait_until(lambda: sum(sizes) >= 5 * PER_TURN)
    assert max(sizes) <= PER_TURN


def test_the_messages_of_a_turn_are_bounded(relays):
    one, two = relays
    for number in range(MOST_MESSAGES + 2):
        one.queue(two.owner, Datagram(bytes((number,)), PEER, None))
        assert one.flush() == []
    assert [len(two.receive()) for _ in range(3)] == [MOST_MESSAGES, 2, 0]
