"""Upstreams reached over TCP that allow few connections, reset them, or move; and UDP that is lost."""

import concurrent.futures
import contextlib
import re
import socket
import struct
import subprocess
import tempfile
import threading
import time
from pathlib import Path

import pytest

from corepy.testing import Load, Upstream, exchange, query, run_command, serve
from corepy.testing.client import read_frame
from corepy.testing.command import wait_until
from corepy.testing.netns import isolated, run
from corepy_forward.handler import Forward

pytestmark = pytest.mark.serial  # rates and latencies: not beside other tests

ZONE = """\
$ORIGIN example.org.
@ 60 SOA ns admin 1 3600 600 86400 60
@ 60 NS ns
* 60 A 192.0.2.7
"""
KNOT = """\
server:
    listen: 127.0.0.1@{port}
    rundir: {folder}
    udp-workers: 1
    tcp-workers: 1
    background-workers: 1
    tcp-max-clients: 20
database:
    storage: {folder}
log:
  - target: stderr
    any: warning
zone:
  - domain: example.org
    file: {folder}/zone
    zonefile-sync: -1
    journal-content: none
    semantic-checks: off
"""
NAMES = [f"n{number}.example.org." for number in range(15_000)]


def corefile(to, options=""):
    return f".:0 {{\nbind 127.0.0.1\ncache\nforward . {to} {{\n{options}\n}}\n}}"


def answer(wire, address=b"\xc0\0\2\7"):
    end = wire.index(b"\0", 12) + 5
    record = b"\xc0\x0c\0\1\0\1\0\0\0\x3c\0\4" + address
    return wire[:2] + b"\x81\x80\0\1\0\1\0\0\0\0" + wire[12:end] + record


@contextlib.contextmanager
def small_knot(port):
    with tempfile.TemporaryDirectory() as folder:
        Path(folder, "zone").write_text(ZONE)
        conf = Path(folder, "knot.conf")
        conf.write_text(KNOT.format(port=port, folder=folder))
        process = subprocess.Popen(["/usr/sbin/knotd", "-c", str(conf)], stderr=subprocess.DEVNULL)
        try:
            for _ in range(500):
                with contextlib.suppress(OSError):
                    exchange(("127.0.0.1", port), query("example.org", "SOA"), timeout=0.2)
                    break
                time.sleep(0.02)
            yield
        finally:
            process.terminate()
            process.wait()


def connections_to(port):
    """Count the clients' ends of connections to a port; namespace of the calling thread.

    The kernel lists a connection twice if others are opened between two reads of the file.
    """
    lines = Path("/proc/thread-self/net/tcp").read_text().splitlines()[1:]
    ends = [line.split()[1:4] for line in lines]
    to, established = f":{port:04X}", "01"
    return len({own for own, peer, state in ends if peer.endswith(to) and state == established})


@isolated
def test_an_upstream_that_allows_few_connections(tmp_path):
    """15,000 new names, 500 of them at a time, over at most four connections; all are answered."""
    questions = tmp_path / "questions"
    questions.write_text("".join(f"{name} A\n" for name in NAMES))
    with small_knot(5300), run_command(corefile("127.0.0.1:5300", "force_tcp")) as server:
        words = f"-s 127.0.0.1 -p {server.address[1]} -d {questions} -n 1 -q 500 -c 4 -t 30"
        with subprocess.Popen(
            ["dnsperf", *words.split()], stdout=subprocess.PIPE, text=True
        ) as load:
            most = 0
            while load.poll() is None:
                most = max(most, connections_to(5300))
                time.sleep(0.005)
            output = load.stdout.read()
    sent, lost = (int(re.search(rf"Queries {it}: +(\d+)", output)[1]) for it in ("sent", "lost"))
    codes = re.findall(r"([A-Z]{3,}) (\d+) \(", output)
    assert 1 <= most <= 4
    assert sent == len(NAMES)
    assert (codes, lost) == ([("NOERROR", str(sent))], 0)


class Resetting:
    """Reads `held` queries from the connections that come first, then resets all those, and answers
    every later one. `served` counts connections.
    """

    def __init__(self, held):
        self.held = held
        self.served = 0
        self.waiting = []
        self.first = []
        self.lock = threading.Lock()
        self.udp = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.udp.bind(("127.0.0.1", 0))  # so that nobody else has the port
        self.tcp = socket.socket()
        self.tcp.bind(self.udp.getsockname())
        self.tcp.listen()

    def __enter__(self):
        self.acceptor = threading.Thread(target=self.accept)
        self.acceptor.start()
        return self

    def __exit__(self, *exc):
        self.tcp.shutdown(socket.SHUT_RDWR)
        self.acceptor.join()
        self.tcp.close()
        self.udp.close()

    @property
    def to(self):
        return f"127.0.0.1:{self.tcp.getsockname()[1]}"

    def accept(self):
        threads = []
        with contextlib.suppress(OSError):
            while True:
                stream, _ = self.tcp.accept()
                self.served += 1
                threads.append(threading.Thread(target=self.serve, args=(stream,)))
                threads[-1].start()
        for thread in threads:
            thread.join()

    def serve(self, stream):
        is_first = len(self.waiting) < self.held
        if is_first:
            self.first.append(stream)
        with contextlib.suppress(OSError), stream:
            while True:
                wire = read_frame(stream)
                if not is_first:
                    reply = answer(wire)
                    stream.sendall(struct.pack("!H", len(reply)) + reply)
                    continue
                with self.lock:
                    self.waiting.append(wire)
                    if len(self.waiting) == self.held:
                        self.reset()

    def reset(self):
        for stream in self.first:
            stream.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            stream.shutdown(socket.SHUT_RD)
        for stream in self.first:
            stream.close()


@pytest.mark.parametrize(("options", "connections"), [("max_idle_conns 1", 1), ("", 4)])
def test_reset_with_a_hundred_queries_in_flight(options, connections):
    with (
        Resetting(100) as upstream,
        serve(corefile(upstream.to, f"force_tcp\nmax_fails 0\n{options}"), still=True) as server,
        concurrent.futures.ThreadPoolExecutor(100) as clients,
    ):
        replies = list(clients.map(server.ask, NAMES[:100]))
        assert len(upstream.waiting) == 100
        assert len(upstream.first) == connections
        assert upstream.served <= 2 * connections
    assert [reply.header.rcode for reply in replies] == [0] * 100
    assert all(str(reply.rr[0].rdata) == "192.0.2.7" for reply in replies)


VIP = "10.96.0.10"


def point_vip(port):
    run("nft", "-f", "-", text=f"""\
table ip vip
delete table ip vip
table ip vip {{
  chain output {{
    type nat hook output priority -100;
    ip daddr {VIP} meta l4proto {{ tcp, udp }} th dport 53 dnat to 127.0.0.1:{port}
  }}
}}
""")  # fmt: skip


def backend(address):
    def behave(asked, _proto):
        return answer(bytes(asked.pack()), socket.inet_aton(address))

    return Upstream(behave)


@isolated
def test_a_virtual_address_that_moves_is_followed_within_max_age():
    """What runs over an open connection stays with the old backend (conntrack): it must end."""
    run("ip", "addr", "add", f"{VIP}/32", "dev", "lo")
    with backend("192.0.2.1") as old, backend("192.0.2.2") as new:
        point_vip(old.address[1])
        options = "force_tcp\nexpire 1000s\nmax_age 1000s\nmax_fails 0"
        with serve(corefile(VIP, options), still=True) as server:
            names = iter(NAMES)

            def answering():
                return {str(server.ask(next(names)).rr[0].rdata) for _ in range(20)}

            (forward,) = server.plugins(Forward)
            (upstream,) = forward.pool.upstreams
            assert answering() == {"192.0.2.1"}
            point_vip(new.address[1])
            for later, address in ((0, "192.0.2.1"), (700, "192.0.2.1"), (1001, "192.0.2.2")):
                server.call(upstream.tidy, time.monotonic() + later)
                assert answering() == {address}


@isolated
def test_a_fifth_of_all_datagrams_is_lost():
    """Of queries and of replies: a third of all exchanges fails at the first attempt."""
    with backend("192.0.2.7") as upstream:
        port = upstream.address[1]
        for end in ("--dport", "--sport"):
            words = f"-A INPUT -p udp {end} {port} -m statistic --mode random --probability 0.2"
            run("iptables", *words.split(), "-j", "DROP")
        with run_command(corefile(upstream.to)) as server:
            with Load(server.address, rate=150, names=NAMES) as load:
                wait_until(lambda: load.outcome.sent > 1000)
            outcome = load.outcome
    failed = outcome.wrong + outcome.unanswered
    assert failed < outcome.sent / 1000


@isolated
@pytest.mark.parametrize("policy", ["random", "round_robin", "sequential"])
def test_one_of_two_upstreams_is_a_black_hole(policy):
    """It drops everything, in silence, from the first query on.

    How long the queries take: `test_a_silent_upstream_costs_one_patience_a_few_times`.
    """
    with backend("192.0.2.1") as dead, backend("192.0.2.7") as alive:
        for proto in ("udp", "tcp"):
            words = f"-A INPUT -p {proto} --dport {dead.address[1]} -j DROP"
            run("iptables", *words.split())
        with (
            run_command(corefile(f"{dead.to} {alive.to}", f"policy {policy}")) as server,
            Load(server.address, rate=100, names=NAMES) as load,
        ):
            wait_until(lambda: load.outcome.sent > 300)
        run("iptables", "-F")  # or `dead` would not hear that it is to end
    assert (load.outcome.wrong, load.outcome.unanswered) == (0, 0)
