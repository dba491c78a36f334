"""Connections over QUIC while a server is reloaded, upgraded and stopped, and in several processes."""

import os
import signal

import pytest

from corepy.net.quic.relay import Datagram, Relay
from corepy.testing import free_port, run_command
from corepy.testing.command import wait_until
from corepy.testing.helper_module import helper_module
from corepy.testing.listening import children
from corepy.testing.quic_peer import ClosedError, QUICPeer

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
            clients.until(lambda: children(command.process.pid) and old not in children(command.process.pid))
            clients.answer_each()
            assert clients.codes <= {0}
            assert clients.connections == 2 * CLIENTS
