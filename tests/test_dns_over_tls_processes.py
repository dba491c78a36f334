"""DNS over TLS in the real command: metrics, crashes, upgrades and several processes."""

import os
import re
import signal
import socket

import pytest

from benchmarks.shares import WHO
from corepy.testing import Load, helper_module, http_get, install, run_command
from corepy.testing.certificates import Authority
from corepy.testing.command import wait_until
from corepy.testing.listening import children, listening
from corepy.testing.upstream import free_port

shared = helper_module(__file__, "dns_over_tls_server")
Client, block = shared.Client, shared.block


@pytest.fixture(scope="module")
def authority():
    return Authority()


@pytest.fixture(scope="module")
def files(authority, tmp_path_factory):
    return authority.issue(tmp_path_factory.mktemp("tls"), shared.NAME, "127.0.0.1")


@pytest.fixture
def context(authority):
    return authority.client_context("dot")


def the_worker(command):
    wait_until(lambda: len(children(command.process.pid)) == 1)
    return children(command.process.pid)[0]


def test_the_banner_and_the_metrics_name_it(files, context):
    port, metrics = free_port(), free_port()
    text = block(files, 1, "cache", f"prometheus 127.0.0.1:{metrics}", port=port)
    with run_command(text) as command:
        label = f"tls://127.0.0.1:{port}"
        command.wait_for(f"{label}: packet cache on")
        assert f"tls://.:{port} on 127.0.0.1" in command.lines
        with Client(command.address, context) as client:
            for name in ("a.example.", "b.example."):
                client.ask(name)
        page = http_get(metrics, "/metrics").text
        found = re.findall(r"^coredns_dns_requests_total\{(.*)\} 2", page, re.MULTILINE)
        assert len(found) == 1
        assert f'server="{label}"' in found[0]
        assert 'proto="tcp"' in found[0]


@pytest.fixture
def supervised(files):
    """A supervised server."""
    text = block(files, 1, "cache", port=free_port())
    with run_command(text, "-supervise") as command:
        command.wait_for(" serves")
        yield command


def test_a_client_waits_for_the_next_worker_after_a_crash(supervised, context):
    sockets = listening(supervised.address[1])
    os.kill(the_worker(supervised), signal.SIGKILL)
    with Client(supervised.address, context) as client:
        assert client.ask() == "192.0.2.1"
    assert listening(supervised.address[1]) == sockets


def test_no_query_is_lost_in_reloads_and_upgrades(supervised, context):
    before = the_worker(supervised)
    with Load(supervised.address, rate=200, clients=20, tls=context) as load:
        wait_until(lambda: load.outcome.latencies)
        supervised.send_signal(signal.SIGUSR1)
        supervised.wait_for("Reloading complete")
        assert load.outcome.reconnects == 0
        supervised.send_signal(signal.SIGHUP)
        supervised.wait_for(f"stopping {before}")
        wait_until(lambda: before not in children(supervised.process.pid))
        sent = load.outcome.sent
        wait_until(lambda: load.outcome.sent > sent + 20)
    assert load.outcome.reconnects >= 20
    assert (load.outcome.unanswered, load.outcome.wrong) == (0, 0)


def test_all_processes_serve_it(files, context, tmp_path):
    env = install(tmp_path, "who", WHO)
    text = block(files, 1, "multisocket 2", "who", port=free_port())
    with run_command(text, env=env) as command:
        seen = set()

        def both_answer():
            with Client(command.address, context) as client:
                seen.add(int.from_bytes(socket.inet_aton(client.ask()), "big"))
            follower = children(command.process.pid)  # another one, if the first was too slow
            return len(follower) == 1 and seen.issuperset([command.process.pid, *follower])

        wait_until(both_answer)
        assert len(listening(command.address[1])) == 2
