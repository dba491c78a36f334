"""The metric of *shed*, in a real server."""

import socket
import threading

import pytest

from corepy.plugin import Handler
from corepy.server.listen import udp
from corepy.testing import free_port, http_get, query, serve, with_handlers
from corepy.testing.command import wait_until
from corepy_shed import dropped


@pytest.fixture(scope="module")
def metrics_port():
    return free_port()


def block(*lines, zone=".", host="127.0.0.1"):
    return f"{zone} {{\nbind {host}\nwhoami\n" + "".join(f"{line}\n" for line in lines) + "}\n"


def exported(port):
    """The time series of the metric, by server and reason."""
    lines = http_get(port, "/metrics").text.splitlines()
    found = [line for line in lines if line.startswith("coredns_shed_dropped_total{")]
    return {line.rpartition(" ")[0].partition("{")[2]: line.rpartition(" ")[2] for line in found}


def series(server, reason):
    return f'reason="{reason}",server="{server}"}}'


def label_of(server, at=0):
    return f"dns://127.0.0.1:{server.addresses[at][1]}"


def test_the_counters_of_the_server_are_the_metric(metrics_port):
    text = block("shed", f"prometheus 127.0.0.1:{metrics_port}")
    with serve(text) as server:
        label = label_of(server)
        queries, replies = series(label, "query"), series(label, "response")
        assert {queries, replies} <= exported(metrics_port).keys()
        assert [exported(metrics_port)[it] for it in (queries, replies)] == ["0", "0"]
        udp.OVERFLOWS.labels(label).inc(3)
        udp.UNSENT.labels(label).inc(2)
        assert [exported(metrics_port)[it] for it in (queries, replies)] == ["3", "2"]
        server.reload(text)
        udp.OVERFLOWS.labels(label).inc()
        assert [exported(metrics_port)[it] for it in (queries, replies)] == ["4", "2"]
        server.reload(block(f"prometheus 127.0.0.1:{metrics_port}"))
        udp.OVERFLOWS.labels(label).inc()
        assert [exported(metrics_port)[it] for it in (queries, replies)] == ["4", "2"]
        assert dropped._active == []
    assert dropped.OVERFLOWS is udp.OVERFLOWS
    assert dropped.UNSENT is udp.UNSENT


def test_only_the_addresses_of_blocks_with_shed(metrics_port):
    text = block("shed", f"prometheus 127.0.0.1:{metrics_port}") + block(
        f"prometheus 127.0.0.1:{metrics_port}", zone="a.test", host="127.0.0.2"
    )
    with serve(text) as server:
        found = exported(metrics_port)
        ports = dict(server.addresses)
        assert series(f"dns://127.0.0.1:{ports['127.0.0.1']}", "query") in found
        assert series(f"dns://127.0.0.2:{ports['127.0.0.2']}", "query") not in found


@pytest.mark.parametrize(
    ("labels", "address", "is_of_block"),
    [
        (["dns://:53"], "dns://:53", True),
        (["dns://:0"], "dns://:4711", True),
        (["dns://[::1]:53"], "dns://[::1]:53", True),
        (["dns://[::1]:0"], "dns://[::1]:99", True),
        (["dns://:53"], "dns://127.0.0.1:53", False),
        (["dns://:53"], "dns://:54", False),
        (["dns://:0"], "dns://127.0.0.1:53", False),
    ],
)
def test_the_addresses_of_a_block(labels, address, is_of_block):
    assert dropped.DropCounter(labels)._is_of_block(address) is is_of_block


def test_addresses_in_another_notation():
    with serve("a.test {\nbind 0:0::1\nshed\nwhoami\n}") as server:
        (counter,) = server.plugins(dropped.DropCounter)
        assert counter.servers == [f"dns://[::1]:{server.addresses[0][1]}"]


class Held(Handler):
    """Holds the event loop during its first query."""

    name = "held"

    def __init__(self):
        self.begun, self.go_on = threading.Event(), threading.Event()

    async def serve_dns(self, request):
        if not self.begun.is_set():
            self.begun.set()
            self.go_on.wait(60)
        return request.error(0)


def test_a_real_overflow_is_counted(metrics_port):
    """While the event loop is held, one client sends more than its share of the queue."""
    handler = Held()
    text = block("shed", f"prometheus 127.0.0.1:{metrics_port}").replace("whoami", "held")
    with (
        serve(text, plugins=with_handlers(held=lambda: handler)) as server,
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client,
    ):
        client.connect(server.address)
        for number in range(udp.BACKLOG + 500):
            client.send(query(f"n{number}.test"))
            assert number or handler.begun.wait(60)
        handler.go_on.set()
        overflows = udp.OVERFLOWS.labels(label_of(server))
        wait_until(lambda: overflows.value)
        assert server.ask("last.test", tcp=True).header.rcode == 0
        counted = exported(metrics_port)[series(label_of(server), "query")]
        assert 0 < float(counted) <= 500
