"""A server of several processes: each serves, and together they are one, whatever happens to one of them."""

import os
import re
import resource
import signal
import socket
import subprocess
import sys
from contextlib import ExitStack
from pathlib import Path

import dnslib
import pytest

from corepy.server.workers.handle import STEP_TIMEOUT
from corepy.testing import Load, Upstream, ask, free_port, http_get, install, run_command
from corepy.testing.client import query
from corepy.testing.command import wait_until
from corepy.testing.listening import children, is_whole, listening

WHO = """\
import asyncio
import os
from corepy.dns.records import rr
from corepy.plugin import Cacheability, Handler, StartupError, hookimpl

api_version = 1

class Who(Handler):
    name, cacheability = "who", Cacheability.SAFE

    def __init__(self, argument=""):
        self.refuses = argument in ("refuses", "refuses-to-lead")
        self.leads = argument == "refuses-to-lead"
        self.gate = argument if argument.startswith("/") else ""

    @hookimpl
    async def before_listen(self, context):
        while self.gate and not os.path.exists(self.gate):
            await asyncio.sleep(0.02)

    async def serve_dns(self, request):
        pid = os.getpid().to_bytes(4, "big")
        return request.reply(answer=[rr(request.question[:-4], 1, 0, pid, 1)])

    @hookimpl
    def serving(self, context):
        if self.refuses and context.process_group.is_leader == self.leads:
            raise StartupError("not with me")

def setup(controller):
    for _ in controller.occurrences():
        controller.add_handler(Who(*[it.text for it in controller.arguments()]))
"""
WAIT = 60.0
BATCH = 64
"""Queries that a process may have taken from its socket when it is killed."""


@pytest.fixture
def who(tmp_path):
    """The environment in which there is a plugin that answers with the ID of its process."""
    return install(tmp_path, "who", WHO)


def block(sockets, body="who", port=0):
    return f".:{port} {{\n bind 127.0.0.1\n multisocket {sockets}\n {body}\n}}\n"


def followers(command):
    return children(command.process.pid)


def wait_whole(command, number, pid=None):
    port, pid = command.address[1], pid or command.process.pid
    wait_until(lambda: is_whole(pid, port, number), WAIT)


def answered_by(address, tcp=False):
    reply = ask(address, "example.org.", tcp=tcp)
    return int.from_bytes(socket.inet_aton(str(reply.rr[0].rdata)), "big")


def reload(command, text, times):
    command.conf.write_text(text)
    command.send_signal(signal.SIGUSR1)
    command.wait_for("Reloading complete", times=times)


def test_every_process_answers_at_sockets_of_its_own(who):
    with run_command(block(3), env=who) as command:
        wait_whole(command, 3)
        processes = {command.process.pid, *followers(command)}
        assert len(processes) == 3
        for tcp in (False, True):
            found: set[int] = set()
            while found != processes:  # the kernel spreads them by the client's port
                found.add(answered_by(command.address, tcp))
        assert command.stop() == 0
        assert not listening(command.address[1])


def answering_one_client(address):
    """The processes that answer the queries from one port."""
    wire = dnslib.DNSRecord.question("example.org.").pack()
    found = set()
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client:
        client.settimeout(WAIT)
        client.connect(address)
        for _ in range(200):  # one of four processes gets none with a probability of 1e-25
            client.send(wire)
            reply = dnslib.DNSRecord.parse(client.recv(512))
            found.add(int.from_bytes(socket.inet_aton(str(reply.rr[0].rdata)), "big"))
    return found


def test_the_queries_of_one_client_go_to_all_processes(who):
    port = free_port()
    with run_command(block(3, port=port), env=who) as command:
        for turn, number in enumerate((3, 2, 4)):
            if turn:
                reload(command, block(number, port=port), turn)
            wait_whole(command, number)
            processes = {command.process.pid, *followers(command)}
            assert len(processes) == number
            assert answering_one_client(command.address) == processes


def test_they_share_evenly_after_another_server_has_left(who):
    port = free_port()
    with run_command(block(2, port=port), env=who) as command:
        wait_whole(command, 2)
        with run_command(block(2, port=port), env=who) as successor:
            assert command.stop() == 0
            wait_whole(successor, 2)
            processes = {successor.process.pid, *followers(successor)}
            wait_until(lambda: answering_one_client(successor.address) == processes, WAIT)


def test_a_follower_imports_nothing_from_the_working_directory(who):
    with run_command(block(2), env=who) as command:
        wait_whole(command, 2)
        (command.conf.parent / "corepy.py").write_text("raise SystemExit('not installed')\n")
        (follower,) = followers(command)
        os.kill(follower, signal.SIGKILL)
        wait_until(lambda: follower not in followers(command), WAIT)
        wait_whole(command, 2)
        assert "not installed" not in command.output


@pytest.mark.parametrize("host", ["0.0.0.0", "::", ""])
def test_all_addresses_of_the_host(who, host):
    """Each process serves the sockets that it got: a query in another socket would be lost."""
    port = free_port()
    text = block(2, port=port).replace("bind 127.0.0.1", f"bind {host}" * bool(host))
    with run_command(text, env=who) as command:
        wait_until(lambda: is_whole(command.process.pid, port, 2), WAIT)
        processes = {command.process.pid, *followers(command)}
        found: set[int] = set()
        while found != processes:
            found.add(answered_by(("::1" if host == "::" else "127.0.0.2", port)))


def test_only_addresses_that_say_so_have_several(who):
    ports = free_port(), free_port()
    text = (
        block(2, port=ports[0])
        + f"a.test:{ports[0]} b.test:{ports[1]} {{\n bind 127.0.0.1\n who\n}}\n"
    )
    with run_command(text, env=who) as command:
        wait_until(lambda: [len(listening(it)) for it in ports] == [4, 2], WAIT)
        for port, number in zip(ports, (2, 1), strict=True):
            pid = command.process.pid
            wait_until(lambda pid=pid, port=port, n=number: is_whole(pid, port, n), WAIT)


class Scrape:
    """The metrics of a server, which must never go backwards."""

    def __init__(self, port):
        self.port = port
        self.last = {}

    def value(self, name):
        """The sum over all time series of a counter."""
        page = http_get(self.port, "/metrics").text
        values = dict(re.findall(r"^([^#\s].*) (\S+)$", page, re.MULTILINE))
        now = {
            key: float(it) for key, it in values.items() if re.match(r"\w+(_total|_count)\b", key)
        }
        assert all(now.get(key, -1) >= it for key, it in self.last.items())
        self.last = now
        return sum(it for key, it in now.items() if key.partition("{")[0] == name)


def test_metrics_are_those_of_one_server(who):
    """Whatever comes and goes: every query is counted once, and no counter goes backwards."""
    scrape = Scrape(free_port())
    body, port = f"prometheus 127.0.0.1:{scrape.port}\n who", free_port()
    asked = 0

    def ask_and_count(command):
        nonlocal asked
        asked += 40
        for _ in range(40):
            answered_by(command.address)
        assert scrape.value("coredns_dns_requests_total") == asked
        assert scrape.value("coredns_dns_request_duration_seconds_count") == asked
        assert scrape.value("process_cpu_seconds_total") > 0

    with run_command(block(3, body, port), env=who) as command:
        ask_and_count(command)
        reload(command, block(3, body, port) + "# as it was\n", 1)
        ask_and_count(command)
        os.kill(followers(command)[0], signal.SIGKILL)
        command.wait_for("has ended")
        ask_and_count(command)
        wait_whole(command, 3)
        for turn, number in enumerate((1, 2), 2):
            reload(command, block(number, body, port), turn)
            ask_and_count(command)


def test_a_follower_that_is_killed_is_replaced(who):
    with run_command(block(2), env=who) as command, Load(command.address, rate=500) as load:
        sockets = set(listening(command.address[1]))
        for turn in range(2):
            (follower,) = followers(command)
            os.kill(follower, signal.SIGKILL)
            command.wait_for("has ended", times=turn + 1)
            wait_whole(command, 2)
        assert set(listening(command.address[1])) == sockets
    assert load.outcome.sent > 100
    assert load.outcome.unanswered <= 2 * BATCH
    assert load.outcome.wrong == 0


def test_a_follower_that_hangs_is_replaced(who):
    with run_command(block(2), env=who) as command, Load(command.address, rate=200) as load:
        (follower,) = followers(command)
        os.kill(follower, signal.SIGSTOP)
        command.wait_for("does not answer")
        wait_whole(command, 2)
        assert followers(command) != [follower]
    assert load.outcome.unanswered <= BATCH
    assert load.outcome.wrong == 0


def test_what_is_missing_is_not_ready(who):
    port = free_port()
    text = block(2, f"ready 127.0.0.1:{port} {{\n monitor continuously\n }}\n who")

    def ready():
        return http_get(port, "/ready").text

    def killed():
        for pid in followers(command):
            os.kill(pid, signal.SIGKILL)
        return ready() == "multisocket"

    with run_command(text, env=who) as command:
        wait_until(lambda: ready() == "OK", WAIT)
        wait_until(killed, WAIT)
        wait_until(lambda: ready() == "OK", WAIT)


def test_a_reload_that_fails_anywhere_changes_nothing(who):
    port = free_port()
    others = free_port()
    more = f"more.test:{others} {{\n bind 127.0.0.1\n multisocket 3\n who\n}}\n"
    good = block(3, port=port)
    with run_command(good, env=who) as command:
        processes, before = set(followers(command)), sorted(listening(port))
        starved = min(processes)
        limits = resource.prlimit(starved, resource.RLIMIT_NOFILE)

        def refuses(text):
            kept = " stays in use"
            before_it = sum(kept in it for it in command.lines)
            command.conf.write_text(text)
            command.send_signal(signal.SIGUSR1)
            command.wait_for(kept, times=before_it + 1)
            assert set(followers(command)) == processes
            assert sorted(listening(port)) == before
            wait_whole(command, 3)

        refuses("broken {\n")
        refuses(block(3, "who refuses", port) + more)
        resource.prlimit(starved, resource.RLIMIT_NOFILE, (4, limits[1]))
        refuses(good + more)  # the sockets do not get through to one of them
        resource.prlimit(starved, resource.RLIMIT_NOFILE, limits)
        for turn, text in enumerate((good + more, good), 1):
            reload(command, text, turn)
            assert set(followers(command)) == processes
            assert len(listening(others)) == (6 if more in text else 0)
            wait_whole(command, 3)


def test_a_changed_number_loses_nothing(who):
    port = free_port()
    with (
        run_command(block(2, port=port), env=who) as command,
        Load(command.address, rate=500, clients=64) as udp,
        Load(command.address, rate=50, tcp=True) as tcp,
    ):
        for turn, number in enumerate((3, 1, 2), 1):
            reload(command, block(number, port=port), turn)
            wait_whole(command, number)
            assert len(followers(command)) == number - 1
    for load in (udp, tcp):
        assert load.outcome.sent > 20
        assert (load.outcome.unanswered, load.outcome.wrong) == (0, 0)


def test_one_process_after_the_other_at_the_same_address_loses_nothing(who):
    port = free_port()
    with ExitStack() as cleanup:
        old = cleanup.enter_context(run_command(block(2, port=port), env=who))
        with Load(old.address, rate=500) as udp, Load(old.address, rate=50, tcp=True) as tcp:
            new = cleanup.enter_context(run_command(block(2, port=port), env=who))
            assert old.stop() == 0
            wait_whole(new, 2)
    for load in (udp, tcp):
        lost = load.outcome.unanswered, load.outcome.wrong
        assert lost == (0, 0), f"{old.output}\n{new.output}"


@pytest.fixture
def supervised(who):
    with run_command(block(2, port=free_port()), "-supervise", env=who) as command:
        command.wait_for(" serves")
        yield command


def the_worker(command):
    wait_until(lambda: len(followers(command)) == 1, WAIT)
    return followers(command)[0]


def test_a_supervised_upgrade_keeps_all_sockets(supervised):
    """That it loses nothing is seen in tests/test_handover.py."""
    sockets = set(listening(supervised.address[1]))
    before = the_worker(supervised)
    supervised.send_signal(signal.SIGHUP)
    supervised.wait_for(", stopping ")
    wait_until(lambda: before not in followers(supervised), WAIT)
    wait_whole(supervised, 2, the_worker(supervised))
    assert set(listening(supervised.address[1])) == sockets
    rollup = Path(f"/proc/{supervised.process.pid}/smaps_rollup").read_text()
    assert int(re.search(r"^Pss:\s*(\d+)", rollup, re.MULTILINE)[1]) < 12 * 1024


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGSTOP])
def test_a_leader_that_fails_comes_back_with_all(supervised, number):
    """One that hangs is noticed, although its follower goes on answering half of the questions."""
    leader = the_worker(supervised)
    (follower,) = children(leader)
    sockets = set(listening(supervised.address[1]))
    with Load(supervised.address, rate=200) as load:
        os.kill(leader, number)
        supervised.wait_for(" serves", times=2)
        wait_until(lambda: not Path(f"/proc/{follower}").exists(), WAIT)
        wait_whole(supervised, 2, the_worker(supervised))
    assert set(listening(supervised.address[1])) == sockets
    assert load.outcome.unanswered <= 2 * BATCH
    assert load.outcome.wrong == 0


def both_workers(command, before):
    """The worker of before, and the one that is to take over."""
    wait_until(lambda: len(followers(command)) == 2, WAIT)
    (following,) = set(followers(command)) - {before}
    return following


def change(command, number, body="who"):
    command.conf.write_text(block(number, body, command.address[1]))


def place(command, text, times=1):
    """Where the line is that has `text` for the last of so many times."""
    command.wait_for(text, times=times)
    return [at for at, line in enumerate(command.lines) if text in line][times - 1]


def is_pending(pid, number):
    """Whether a signal has not arrived yet; of two, the one with the lower number is first."""
    status = Path(f"/proc/{pid}/status").read_text()
    masks = re.findall(r"^(?:Sig|Shd)Pnd:\t(\w+)$", status, re.MULTILINE)
    return any(int(mask, 16) >> (number - 1) & 1 for mask in masks)


@pytest.mark.parametrize("number", [1, 3])
def test_an_upgrade_waits_for_a_reload(supervised, number):
    """Two changes at once would not know of each other's sockets."""
    change(supervised, number)
    supervised.send_signal(signal.SIGUSR1)
    wait_until(lambda: not is_pending(supervised.process.pid, signal.SIGUSR1), WAIT)
    supervised.send_signal(signal.SIGHUP)
    assert place(supervised, "Reloading complete") < place(supervised, "corepy-", 2)
    supervised.wait_for(", stopping ")
    wait_whole(supervised, number, the_worker(supervised))


@pytest.mark.parametrize("number", [1, 3])
def test_an_upgrade_begins_anew_when_the_worker_reloads(supervised, number, tmp_path):
    before, gate = the_worker(supervised), tmp_path / "gate"
    change(supervised, number, f"who {gate}")
    supervised.send_signal(signal.SIGHUP)
    following = both_workers(supervised, before)
    os.kill(before, signal.SIGUSR1)  # as if *reload* had seen the change
    supervised.wait_for(f"replacing worker {following}")
    gate.touch()
    supervised.wait_for(", stopping ")
    wait_whole(supervised, number, the_worker(supervised))
    assert the_worker(supervised) not in (before, following)


def test_a_reload_is_not_forgotten_when_an_upgrade_fails(supervised):
    before = the_worker(supervised)
    supervised.send_signal(signal.SIGHUP)
    following = both_workers(supervised, before)
    os.kill(following, signal.SIGSTOP)
    change(supervised, 3)
    supervised.send_signal(signal.SIGUSR1)
    supervised.wait_for("the old one stays in use")  # one that is stopped is not waited for
    wait_whole(supervised, 3, before)


def test_an_upgrade_that_is_refused_at_last_leaves_the_sockets_alone(supervised):
    """Its followers had begun to answer there, and must not empty them when they end."""
    before, sockets = the_worker(supervised), set(listening(supervised.address[1]))
    change(supervised, 2, "who refuses-to-lead")
    supervised.send_signal(signal.SIGHUP)
    supervised.wait_for("the old one stays in use")
    wait_whole(supervised, 2, before)
    assert set(listening(supervised.address[1])) == sockets


def ask_from_everywhere(address, patience=WAIT):
    """Send queries from many ports, so that each socket has some; return who waits for replies."""
    asking = [socket.socket(socket.AF_INET, socket.SOCK_DGRAM) for _ in range(60)]
    for sock in asking:
        sock.settimeout(patience)
        sock.sendto(query("example.org."), address)
    return asking


def replies(asking):
    number = 0
    for sock in asking:
        with sock:
            number += len(sock.recv(512)) > 12
    return number


def test_what_lies_in_sockets_that_nobody_wants_any_more_is_answered(supervised):
    """The number is smaller when the leader is killed: its successor never answers there."""
    leader = the_worker(supervised)
    for pid in (*children(leader), leader):
        os.kill(pid, signal.SIGSTOP)
    asking = ask_from_everywhere(supervised.address)
    change(supervised, 1)
    os.kill(leader, signal.SIGKILL)
    assert replies(asking) == len(asking)
    wait_whole(supervised, 1, the_worker(supervised))


def test_a_follower_that_hangs_in_a_reload_holds_nobody_up(who):
    """Its queries are answered before the reload gives it up."""
    port = free_port()
    with run_command(block(2, port=port), env=who) as command:
        (follower,) = followers(command)
        os.kill(follower, signal.SIGSTOP)
        command.send_signal(signal.SIGUSR1)
        asking = ask_from_everywhere(command.address, STEP_TIMEOUT - 1)
        assert replies(asking) == len(asking)
        command.wait_for("Reloading complete")
        wait_whole(command, 2)
        assert followers(command) != [follower]


def test_without_a_supervisor_nothing_outlives_the_leader(who):
    with run_command(block(3), env=who) as command:
        processes = followers(command)
        os.kill(processes[0], signal.SIGSTOP)
        command.process.kill()
        wait_until(lambda: not any(Path(f"/proc/{it}").exists() for it in processes), WAIT)


def test_purging_reaches_every_process(tmp_path):
    address = "192.0.2.1"

    def answer(query, _):
        reply = query.reply()
        reply.add_answer(*dnslib.RR.fromZone(f"{query.q.qname} 600 A {address}"))
        return reply

    def answers(command):
        return {str(ask(command.address, "www.example.org.").rr[0].rdata) for _ in range(20)}

    env = {"RUNTIME_DIRECTORY": str(tmp_path)}
    with Upstream(answer) as upstream:
        text = block(2, f"cache\n forward . {upstream.to}")
        with run_command(text, env=env) as command:
            assert answers(command) == {"192.0.2.1"}
            address = "192.0.2.2"
            assert answers(command) == {"192.0.2.1"}
            purge = [sys.executable, "-m", "corepy", "cache", "purge", "www.example.org."]
            subprocess.run(purge, env={**os.environ, **env}, check=True, capture_output=True)
            assert answers(command) == {"192.0.2.2"}
