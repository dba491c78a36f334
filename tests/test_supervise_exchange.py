"""The fallback's exchanges: which replies count, and how many queries are under way. The test is the fallback."""

import selectors
import socket
from functools import partial

import pytest

from corepy.supervise import exchange as module
from corepy.supervise.exchange import MAX_PER_PORT, MAX_PER_QUESTION, MAX_PORTS, MAX_STRAYS
from corepy.supervise.relay import Relay
from corepy.testing import query

NAME = "www.Example.org."


class Fallback:
    """A UDP socket in the place of the fallback, and the exchanges with it."""

    def __init__(self):
        self.sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.sock.bind(("127.0.0.1", 0))
        self.sock.settimeout(20)
        self.selector = selectors.DefaultSelector()
        self.answers: list[tuple[object, bytes]] = []
        self.exchanges: module.Exchanges[object] = module.Exchanges(
            self.selector, self.sock.getsockname(), lambda *it: self.answers.append(it)
        )

    def receive(self, number=1):
        """Return what was asked, as (message, port)."""
        found = [self.sock.recvfrom(4096) for _ in range(number)]
        assert self.is_quiet()
        return found

    def is_quiet(self):
        self.sock.setblocking(False)
        try:
            return not self.sock.recv(4096)
        except BlockingIOError:
            return True
        finally:
            self.sock.settimeout(20)

    def send(self, message, to):
        self.sock.sendto(message, to)

    def turn(self):
        """Let the exchanges take what was sent: over loopback it is there at once."""
        for key, events in self.selector.select(0):
            if self.selector.get_map().get(key.fd) is key:
                key.data(key.fileobj, events)

    def close(self):
        self.exchanges.stop()
        assert self.exchanges.ports == 0
        assert not self.selector.get_map()
        self.selector.close()
        self.sock.close()


@pytest.fixture
def fallback():
    it = Fallback()
    yield it
    it.close()


def reply_to(asked, **flags):
    """The same message as a reply: QR set."""
    return asked[:2] + bytes([asked[2] | 0x80]) + asked[3:]


def replaced(message, old, new):
    assert old in message
    return message.replace(old, new, 1)


FALSE_REPLIES = {
    "another ID": lambda it: bytes([it[0] ^ 1]) + it[1:],
    "another name": lambda it: replaced(it, b"\3www", b"\3wwx"),
    "a longer name": lambda it: replaced(it, b"\3www", b"\1a\3www"),
    "another type": lambda it: it[:-3] + b"\x1c" + it[-2:],
    "another class": lambda it: it[:-1] + b"\3",
    "no question": lambda it: it[:4] + b"\0\0" + it[6:12],
    "two questions": lambda it: it[:4] + b"\0\2" + it[6:] + it[12:],
    "a compressed question": lambda it: it[:12] + b"\xc0\x0c" + it[-4:],
    "a question cut off": lambda it: it[:-1],
    "half a header": lambda it: it[:7],
    "nothing": lambda it: b"",
    "no reply": lambda it: it[:2] + bytes([it[2] & 0x7F]) + it[3:],
    "another opcode": lambda it: it[:2] + bytes([it[2] | 0x20]) + it[3:],
}


@pytest.mark.parametrize("kind", FALSE_REPLIES)
def test_only_a_reply_to_the_question_counts(fallback, kind):
    wire = query(NAME)
    fallback.exchanges.ask(wire, "client")
    ((asked, port),) = fallback.receive()
    right = reply_to(asked)
    fallback.send(FALSE_REPLIES[kind](right), port)
    fallback.turn()
    assert fallback.answers == []
    fallback.send(right, port)
    fallback.turn()
    assert fallback.answers == [("client", right[2:])]
    assert fallback.exchanges.ports == 0


def test_types_that_differ_by_the_bit_of_letter_case_are_different(fallback):
    """65 (HTTPS) is "A", 97 is "a"."""
    fallback.exchanges.ask(query(NAME, "HTTPS"), "client")
    ((asked, port),) = fallback.receive()
    fallback.send(reply_to(asked[:-3] + b"a" + asked[-2:]), port)
    fallback.turn()
    assert fallback.answers == []


def test_a_name_in_another_case_is_the_same(fallback):
    fallback.exchanges.ask(query(NAME), "client")
    ((asked, port),) = fallback.receive()
    fallback.send(reply_to(asked.replace(b"Example", b"eXAMPLE")), port)
    fallback.turn()
    assert len(fallback.answers) == 1


def test_a_reply_from_elsewhere_does_not_arrive(fallback):
    fallback.exchanges.ask(query(NAME), "client")
    ((asked, port),) = fallback.receive()
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as stranger:
        stranger.bind(("127.0.0.1", 0))
        stranger.sendto(reply_to(asked), port)
    fallback.turn()
    assert fallback.answers == []


def test_equal_queries_share_an_exchange(fallback):
    wire = query(NAME)
    for ident in (b"ab", b"cd", b"ef"):
        fallback.exchanges.ask(ident + wire[2:], ident)
    ((asked, port),) = fallback.receive()
    fallback.send(reply_to(asked), port)
    fallback.turn()
    assert fallback.answers == [(it, reply_to(asked)[2:]) for it in (b"ab", b"cd", b"ef")]


def test_one_question_is_asked_a_few_times_at_once_whatever_else_differs(fallback):
    for size in range(512, 612):
        fallback.exchanges.ask(query(NAME, edns=size), size)
    asked = fallback.receive(MAX_PER_QUESTION)
    assert len({message[:2] for message, _ in asked}) == MAX_PER_QUESTION
    for message, port in asked:
        fallback.send(reply_to(message), port)
    fallback.turn()
    assert len(fallback.answers) == MAX_PER_QUESTION
    fallback.exchanges.ask(query(NAME, edns=999), "later")
    fallback.receive(1)


def test_many_ports_carry_few_queries_each(fallback, monkeypatch):
    monkeypatch.setattr(module, "MAX_PORTS", 8)
    number = 8 * MAX_PER_PORT
    for at in range(number + 20):
        fallback.exchanges.ask(query(f"{at}.example."), at)
    asked = fallback.receive(number)
    assert len({port for _, port in asked[:8]}) == 8
    assert len({(port, message[:2]) for message, port in asked}) == number
    assert fallback.exchanges.ports == 8 < MAX_PORTS
    for message, port in asked:
        fallback.send(reply_to(message), port)
    fallback.turn()
    assert {asker for asker, _ in fallback.answers} == set(range(number))


def test_no_more_clients_wait_than_there_may(fallback, monkeypatch):
    monkeypatch.setattr(module, "MAX_QUERIES", 3)
    for ident in (b"ab", b"cd", b"ef", b"gh"):
        fallback.exchanges.ask(ident + query(NAME)[2:], ident)
    ((asked, port),) = fallback.receive()
    fallback.send(reply_to(asked), port)
    fallback.turn()
    assert len(fallback.answers) == 3


def test_a_port_at_which_somebody_guesses_is_given_up_for_tcp(fallback):
    wire = query(NAME)
    fallback.exchanges.ask(wire, "client")
    ((asked, port),) = fallback.receive()
    guess = FALSE_REPLIES["another ID"](reply_to(asked))
    for at in range(MAX_STRAYS):
        assert fallback.answers == []
        fallback.send(guess, port)
        if at % 32 == 31 or at == MAX_STRAYS - 1:
            fallback.turn()
    ((asker, body),) = fallback.answers
    assert asker == "client"
    assert body == bytes([0x83, 0]) + b"\0\1\0\0\0\0\0\0" + wire[12:]
    assert fallback.exchanges.ports == 0


@pytest.mark.parametrize(
    "message",
    [
        b"",
        b"ab",
        query(NAME)[:11],
        query(NAME)[:-1],
        query(NAME, opcode=4),
        reply_to(query(NAME)),
        query(NAME)[:4] + b"\0\0" + query(NAME)[6:],
        query(NAME)[:12] + b"\xc0\x0c\0\1\0\1",
        query(NAME)[:12] + b"\x3f" + b"x" * 63 * 5,
        query(NAME)[:12] + (b"\x3f" + b"x" * 63) * 5 + b"\0\0\1\0\1",
    ],
    ids=str.split("empty short header cut status reply no-question pointer long-label long-name"),
)
def test_what_is_no_plain_query_is_not_passed_on(fallback, message):
    fallback.exchanges.ask(message, "client")
    assert fallback.is_quiet()
    assert fallback.exchanges.ports == 0


def test_exchanges_end_in_time(fallback, monkeypatch):
    monkeypatch.setattr(module, "QUERY_TIMEOUT", -1.0)
    fallback.exchanges.ask(query(NAME), "client")
    fallback.receive()
    fallback.exchanges.expire()
    assert fallback.exchanges.ports == 0
    assert fallback.answers == []


def test_a_fallback_where_nobody_listens_keeps_no_port(fallback):
    fallback.sock.close()
    fallback.exchanges.ask(query(NAME), "client")
    fallback.turn()
    assert fallback.exchanges.ports == 0
    fallback.exchanges.ask(query(NAME), "client")
    assert fallback.exchanges.ports == 1


def test_unusual_queries_for_a_name_do_not_keep_others_from_it(fallback):
    """The fallback answers none of them, and they come again and again."""
    for flags in ({"rd": 0}, {"cd": 1}, {"do": True}, {"rd": 0, "cd": 1}, {"rd": 0, "do": True}):
        fallback.exchanges.ask(query(NAME, **flags), "greedy")
    fallback.receive(module.MAX_UNUSUAL)
    for wire in (query(NAME), query(NAME, edns=1232)):
        fallback.exchanges.ask(wire, "other")
        ((asked, port),) = fallback.receive()
        fallback.send(reply_to(asked), port)
        fallback.turn()
    assert [asker for asker, _ in fallback.answers] == ["other", "other"]


def test_a_fallback_that_cannot_be_reached_costs_the_query_alone():
    """connect(2) refuses a broadcast address, as it does any address without a route."""
    selector = selectors.DefaultSelector()
    exchanges: module.Exchanges[str] = module.Exchanges(
        selector, ("255.255.255.255", 53), lambda *_: None
    )
    exchanges.ask(query("example.org"), "somebody")
    assert exchanges.ports == 0
    assert not selector.get_map()


def test_a_client_over_tcp_is_cut_off_if_the_fallback_cannot_be_reached():
    with selectors.DefaultSelector() as selector, socket.create_server(("127.0.0.1", 0)) as server:
        server.setblocking(False)
        relay = Relay(selector, ("255.255.255.255", 53))
        relay.start([server])
        with socket.create_connection(server.getsockname(), timeout=60) as client:
            for key, events in selector.select(20):
                key.data(key.fileobj, events)
            assert client.recv(1) == b""
        assert list(selector.get_map()) == [server.fileno()]
        relay.stop()


HEADER = b"\r\n\r\n\0\r\nQUIT\n\x20\0\0\0"


def turns(selector, until):
    """Run the relay's callbacks until `until` returns a value that is true; return it."""
    while not (found := until()):
        for key, events in selector.select(20):
            key.data(key.fileobj, events)
    return found


def arrived(sock):
    sock.setblocking(False)
    try:
        return sock.recv(4096)
    except BlockingIOError:
        return b""


PIECES = pytest.mark.parametrize(
    "pieces",
    [(HEADER, b"rest"), (HEADER + b"rest",), (b"rest",)],
    ids=["apart", "together", "none"],
)


@PIECES
def test_a_proxy_header_of_a_datagram_is_not_passed_on(fallback, pieces):
    wire = query(NAME)
    with (
        selectors.DefaultSelector() as selector,
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as listening,
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client,
    ):
        listening.bind(("127.0.0.1", 0))
        listening.setblocking(False)
        relay = Relay(selector, fallback.sock.getsockname())
        relay.start([listening])
        client.connect(listening.getsockname())
        for piece in pieces:
            client.send(piece.replace(b"rest", wire))
        assert turns(selector, partial(arrived, fallback.sock))[2:] == wire[2:]
        relay.stop()


@PIECES
def test_a_proxy_header_of_a_connection_is_not_passed_on(pieces):
    """The first piece holds the whole header, if there is one."""
    with (
        selectors.DefaultSelector() as selector,
        socket.create_server(("127.0.0.1", 0)) as listening,
        socket.create_server(("127.0.0.1", 0)) as server,
    ):
        listening.setblocking(False)
        relay = Relay(selector, server.getsockname())
        relay.start([listening])
        with socket.create_connection(listening.getsockname()) as stream:
            upstream = turns(selector, partial(accepted, server))
            for piece in pieces:
                stream.sendall(piece)
                turns(selector, lambda: not relay._silent)  # it has read the first piece
            with upstream:
                assert turns(selector, partial(arrived, upstream)) == b"rest"
        relay.stop()


def accepted(server):
    server.setblocking(False)
    try:
        return server.accept()[0]
    except BlockingIOError:
        return None
