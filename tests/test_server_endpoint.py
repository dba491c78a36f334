"""Endpoints with listeners of a test: sockets that are inherited, listeners that raise, draining."""

import asyncio
import contextlib
import functools
import socket
from types import SimpleNamespace
from typing import Any, ClassVar

import pytest

from corepy.net.inherited import Inherited, Key
from corepy.net.sockets import Address, open_all
from corepy.server.listen import endpoint, transports
from corepy.server.listen.endpoint import Endpoint, Listen, drained
from corepy.server.listen.query_listener import Listener
from corepy.server.listen.transport import Transport

LISTEN = Listen("noting", "127.0.0.1", 0)
UNUSED: Any = None


class Noting(Listener):
    """Notes the calls of its methods in `calls`, and raises the exceptions in `faults`."""

    calls: ClassVar[list[tuple[object, ...]]] = []
    faults: ClassVar[dict[tuple[str, str], BaseException]] = {}

    def __init__(self, sock, context):
        self.sock, self.context = sock, context
        pipeline: Any = SimpleNamespace(swap=lambda *given: self._note("pipeline", *given))
        self.pipeline = pipeline
        self._note("init")

    def _note(self, method, *given):
        self.calls.append((self.network, method, *given))
        error = self.faults.get((self.network, method))
        if error is not None:
            raise error

    def swap(self, router, config):
        self._note("swap", router, config)

    def forget(self):
        self._note("forget")

    def start(self):
        self._note("start")

    def pause(self):
        self._note("pause")

    def waiting(self):
        self._note("waiting")
        return {self.network}

    def stop(self, *, leave_queue=False):
        self._note("stop", leave_queue)

    @property
    def is_drained(self):
        self._note("is_drained")
        return True

    def close(self):
        self._note("close")
        self.sock.close()


class NotingUDP(Noting):
    network = protocol = "udp"


class NotingTCP(Noting):
    network = protocol = "tcp"


@pytest.fixture(autouse=True)
def calls(monkeypatch):
    both = Transport("noting", None, (NotingUDP, NotingTCP))
    alone = Transport("alone", None, (NotingTCP,))
    for transport in (both, alone):
        monkeypatch.setitem(transports._loaded, transport.scheme, transport)
    monkeypatch.setattr(Noting, "calls", [])
    monkeypatch.setattr(Noting, "faults", {})
    return Noting


@contextlib.contextmanager
def opened(listen=LISTEN, inherited=None, **options):
    made = Endpoint(listen, UNUSED, UNUSED, inherited, **options)
    Noting.calls.clear()
    try:
        yield made
    finally:
        for sock in made.sockets:
            sock.close()


def called():
    """Return the calls since the last time."""
    found = Noting.calls.copy()
    Noting.calls.clear()
    return found


def in_a_task(test):
    """Run a test as the server calls its endpoints."""

    @functools.wraps(test)
    def run(**given):
        async def main():
            test(**given)

        asyncio.run(main())

    return run


def both(method, *given):
    return [("udp", method, *given), ("tcp", method, *given)]


# -- sockets


def test_the_label_has_the_port_of_the_socket():
    assert Listen("dns", "", 53).label() == "dns://:53"
    assert Listen("dns", "::1", 0).label(5353) == "dns://[::1]:5353"
    with opened() as made:
        (_, port), (_, other) = (it.getsockname() for it in made.sockets)
        assert (made.port, made.port) == (port, other)
        assert made.label == f"noting://127.0.0.1:{port}"
        assert (made.listen, made.shard, made.kept) == (LISTEN, 0, False)
        for listener, sock in zip(made.listeners, made.sockets, strict=True):
            assert (listener.sock, listener.context.label) == (sock, made.label)
            assert listener.context.wildcard is False


def test_a_given_port_replaces_port_0():
    with opened() as first:
        port = first.port
    with opened(port=port, shard=3) as second:
        assert (second.port, second.shard) == (port, 3)


def test_the_listener_of_a_network():
    with opened() as made:
        assert [made.listener(it).network for it in ("udp", "tcp", "quic")] == ["udp", "tcp", "udp"]
    with opened(Listen("alone", "127.0.0.1", 0)) as made:
        assert made.listener("udp").network == "tcp"


def given(listen=LISTEN, *, lent=False, networks=("udp", "tcp")):
    """Return sockets as a manager passes them on, and the address they are bound to."""
    udp, tcp = open_all(Address("127.0.0.1", 0), ("udp", "tcp"))
    address = Address("127.0.0.1", udp.getsockname()[1])
    sockets = {"udp": udp, "tcp": tcp}
    for network in sockets.keys() - set(networks):
        sockets.pop(network).close()
    inherited = {
        Key(network, address, 0, listen.transport): Inherited(sock, lent)
        for network, sock in sockets.items()
    }
    return inherited, sockets, address


@pytest.mark.parametrize("lent", [False, True])
@pytest.mark.parametrize("networks", [("udp", "tcp"), ("udp",), ("tcp",)])
@in_a_task
def test_inherited_sockets_are_used_and_the_others_are_opened(monkeypatch, lent, networks):
    prepared = []
    monkeypatch.setattr(
        endpoint, "prepare_udp", lambda sock, *, wildcard: prepared.append((sock, wildcard))
    )
    inherited, sockets, address = given(lent=lent, networks=networks)
    with opened(LISTEN._replace(port=address.port), inherited) as made:
        assert inherited == {}
        found = dict(zip(("udp", "tcp"), made.sockets, strict=True))
        assert {it: found[it] for it in networks} == sockets
        assert prepared == [(sockets[it], False) for it in networks if it == "udp"]
        assert {sock.getsockname() for sock in made.sockets} == {(address.host, address.port)}
        assert made.kept is (len(networks) == 2)
        made.stop()
        assert called() == both("stop", lent or len(networks) == 2)


def test_sockets_are_closed_if_another_one_cannot_be_opened(monkeypatch):
    inherited, sockets, address = given(networks=("tcp",))
    found = []

    def refuse(network, at):
        found.append((network, at))
        raise OSError("no more")

    monkeypatch.setattr(endpoint, "open_listening", refuse)
    with pytest.raises(OSError, match="no more"):
        Endpoint(LISTEN._replace(port=address.port), UNUSED, UNUSED, inherited)
    assert found == [("udp", address)]
    assert sockets["tcp"].fileno() == -1


def test_opened_sockets_are_closed_if_an_inherited_one_cannot_be_used(monkeypatch):
    """The transport has its TCP socket first."""
    reverse = Transport("reverse", None, (NotingTCP, NotingUDP))
    monkeypatch.setitem(transports._loaded, "reverse", reverse)
    listen = Listen("reverse", "127.0.0.1", 0)
    inherited, sockets, address = given(listen, networks=("udp",))
    new = []
    open_listening = endpoint.open_listening
    monkeypatch.setattr(
        endpoint, "open_listening", lambda *at: new.append(open_listening(*at)) or new[-1]
    )

    def refuse(sock, *, wildcard):
        raise OSError("an option is missing")

    monkeypatch.setattr(endpoint, "prepare_udp", refuse)
    with pytest.raises(OSError, match="an option is missing"):
        Endpoint(listen._replace(port=address.port), UNUSED, UNUSED, inherited)
    assert [it.fileno() for it in (*new, *sockets.values())] == [-1, -1]


def test_sockets_are_closed_if_a_listener_cannot_be_created(monkeypatch):
    Noting.faults["tcp", "init"] = ValueError("no certificate")
    sockets = []
    open_all = endpoint.open_all

    def note(*given):
        sockets.extend(open_all(*given))
        return sockets

    monkeypatch.setattr(endpoint, "open_all", note)
    with pytest.raises(ValueError, match="no certificate"):
        Endpoint(LISTEN, UNUSED, UNUSED)
    assert called() == [*both("init"), ("udp", "close")]
    assert [it.fileno() for it in sockets] == [-1, -1]


# -- listeners


@in_a_task
def test_the_life_of_an_endpoint():
    with opened() as made:
        made.swap("router", "config")
        assert called() == both("swap", "router", "config")
        made.pause()
        assert called() == []  # it has not started
        made.start()
        made.start()
        assert called() == both("start")
        assert made.waiting() == {"udp", "tcp"}
        assert called() == both("waiting")
        made.forget()
        assert called() == both("forget")
        made.swap_back("router", "config")
        assert called() == both("swap", "router", "config")
        made.pause()
        made.pause()
        assert called() == [*both("pause"), *both("forget")]
        made.resume()
        assert called() == both("start")
        assert made.is_drained
        assert called() == both("is_drained")
        made.pause()
        called()
        made.stop()
        assert called() == both("stop", False)
        made.start()
        made.resume()
        assert called() == []
        made.close()
        assert called() == both("close")
        assert [sock.fileno() for sock in made.sockets] == [-1, -1]


@pytest.mark.parametrize("error", [ValueError("boom"), SystemExit(3)], ids=repr)
@in_a_task
def test_a_listener_that_raises_leaves_the_other_one_alone(error, caplog):
    with opened() as made:

        def reported(method, call):
            Noting.faults["udp", method] = error.with_traceback(None)
            caplog.clear()
            result = call()
            Noting.faults.clear()
            prefix = f"{made.label}: {method} of the listener failed: "
            assert [it.startswith(prefix) for it in caplog.messages] == [True]
            return result

        reported("swap", lambda: made.swap_back("router", "config"))
        swaps = both("swap", "router", "config")
        assert called() == [swaps[0], ("udp", "pipeline", "router", "config"), swaps[1]]
        reported("forget", made.forget)
        reported("start", made.resume)
        assert called() == [*both("forget"), *both("start")]
        assert reported("waiting", made.waiting) == {"tcp"}
        reported("pause", made.pause)
        assert called() == [*both("waiting"), *both("pause"), *both("forget")]
        assert reported("is_drained", lambda: made.is_drained) is True
        reported("stop", made.stop)
        assert called() == [("udp", "is_drained"), *both("stop", False)]


def test_the_first_exception_of_a_start_is_raised_when_all_have_started():
    with opened() as made:
        first, second = ValueError("first"), ValueError("second")
        Noting.faults.update({("udp", "start"): first, ("tcp", "start"): second})
        with pytest.raises(ValueError, match="first"):
            made.start()
        assert called() == both("start")
        made.start()
        assert called() == []


@pytest.mark.parametrize("is_read", [False, True])
def test_a_listener_that_cannot_be_closed_loses_its_socket(is_read, caplog):
    async def test():
        loop = asyncio.get_running_loop()
        with opened() as made:
            Noting.faults["udp", "close"] = ValueError("boom")
            udp, tcp = made.sockets
            number = udp.fileno()
            if is_read:
                loop.add_reader(udp, lambda: None)
            made.close()
            assert called() == both("close")
            assert (udp.fileno(), tcp.fileno()) == (-1, -1)
            assert not loop.remove_reader(number)

    asyncio.run(test())
    assert "close of the listener failed" in caplog.text


def test_a_socket_that_a_listener_has_closed_already():
    async def test():
        with opened() as made:
            Noting.faults["udp", "close"] = ValueError("boom")
            made.sockets[0].close()
            made.close()
            assert called() == both("close")

    asyncio.run(test())


# -- draining


class Draining:
    """An endpoint that is drained at a time."""

    def __init__(self, loop, at):
        self.loop, self.at = loop, at

    @property
    def is_drained(self):
        return self.loop.time() >= self.at


@pytest.mark.parametrize(
    ("queries", "endpoints", "left", "seconds"),
    [
        ([], [], 0, 0),
        ([1], [], 0, 1),
        ([1, 2], [], 0, 2),
        ([], [1, 3], 0, 3),
        ([2], [1], 0, 2),
        ([1], [2], 0, 2),
        ([1, 9, 8], [], 2, 5),
        ([1], [9], 0, 5),
        ([9], [9], 1, 5),
    ],
)
def test_how_long_draining_takes(monkeypatch, queries, endpoints, left, seconds):
    """In seconds; the limit is 5."""

    class Query:
        def __init__(self, at):
            self.at = at

        @property
        def is_done(self):
            return now[0] >= self.at

    now = [0.0]
    loop = SimpleNamespace(time=lambda: now[0])

    async def sleep(seconds):
        now[0] += seconds

    module = SimpleNamespace(get_running_loop=lambda: loop, sleep=sleep)
    monkeypatch.setattr(endpoint, "asyncio", module)
    waiting: Any = {Query(at) for at in queries}
    leaving: Any = [Draining(loop, at) for at in endpoints]
    coroutine = drained(waiting, leaving, 5.0)
    with pytest.raises(StopIteration) as ended:
        coroutine.send(None)
    assert ended.value.value == left
    assert seconds <= now[0] < seconds + 0.0101


def test_a_socket_of_the_test_is_free_again():
    """No descriptor is left by the tests above."""
    with opened() as made:
        port = made.port
        made.close()
    with socket.socket(type=socket.SOCK_DGRAM) as sock:
        sock.bind(("127.0.0.1", port))
