"""Sockets that were passed to the process, and what it tells whoever passed them."""

import os
import socket
from contextlib import ExitStack

import pytest

from corepy.net import inherited
from corepy.net.inherited import Inherited, Key, Manager, address_of, claim, key_of, take
from corepy.net.sockets import Address, open_all

PLACE = 700
"""Where inherited descriptors begin here: 3 and up are in use."""


@pytest.fixture
def pass_on(monkeypatch):
    """A function that puts sockets where inherited ones are and returns the environment."""
    monkeypatch.setattr(inherited, "FIRST_FD", PLACE)

    def put(*socks, names=None, **env):
        for shard, sock in enumerate(socks, PLACE):
            os.dup2(sock.fileno(), shard, inheritable=True)
        names = [key_of(sock).name for sock in socks] if names is None else names
        return {
            "LISTEN_FDS": str(len(socks)),
            "LISTEN_PID": str(os.getpid()),
            "LISTEN_FDNAMES": ":".join(names),
            **env,
        }

    return put


@pytest.fixture
def cleanup():
    with ExitStack() as stack:
        yield stack


@pytest.fixture
def pair(cleanup):
    # Tries again where TCP has the port already.
    udp, tcp = open_all(Address("127.0.0.1", 0), ("udp", "tcp"))
    return cleanup.enter_context(udp), cleanup.enter_context(tcp)


def taken(environment, cleanup):
    found = take(environment)
    for sock, _ in found.values():
        cleanup.enter_context(sock)
    return found


def test_sockets_are_found_by_protocol_and_address(pair, pass_on, cleanup):
    address = Address("127.0.0.1", pair[0].getsockname()[1])
    found = taken(pass_on(*pair), cleanup)
    assert set(found) == {Key("udp", address), Key("tcp", address)}
    for sock, lent in found.values():
        assert not lent
        assert not sock.getblocking()
        assert not sock.get_inheritable()


def test_sockets_of_one_address_are_told_apart_by_their_names(pair, pass_on, cleanup):
    udp, _ = pair
    names = [key_of(udp, shard).name for shard in (0, 2, 11)]
    found = taken(pass_on(udp, udp, udp, names=names), cleanup)
    assert set(found) == {key_of(udp, shard) for shard in (0, 2, 11)}
    assert not any(lent for _, lent in found.values())


@pytest.mark.parametrize("names", [["corepy.socket", "corepy.socket"], ["other"], []])
def test_what_does_not_have_our_name_is_lent(pair, pass_on, cleanup, names):
    assert all(lent for _, lent in taken(pass_on(*pair, names=names), cleanup).values())


def test_the_environment_is_used_up(pair, pass_on, cleanup):
    environment = pass_on(*pair, OTHER="1")
    taken(environment, cleanup)
    assert environment == {"OTHER": "1"}


@pytest.mark.parametrize(
    "change",
    [{"LISTEN_PID": "1"}, {"LISTEN_PID": ""}, {"LISTEN_FDS": "x"}, {"LISTEN_FDS": "-1"}],
)
def test_nothing_is_taken_that_is_not_ours(pass_on, change):
    assert take(pass_on(**change)) == {}


def test_what_is_no_listening_ip_socket_is_closed(pair, pass_on, cleanup):
    unix = cleanup.enter_context(socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM))
    found = taken(pass_on(pair[0], unix, pair[0], names=["a", "b", "c"]), cleanup)
    assert len(found) == 1
    for shard in (PLACE + 1, PLACE + 2):  # the unix socket, and the same address again
        with pytest.raises(OSError, match="Bad file descriptor"):
            os.fstat(shard)


@pytest.mark.parametrize("shard", [PLACE, PLACE + 1])
def test_a_descriptor_that_is_not_open_is_passed_over(pair, pass_on, cleanup, shard):
    environment = pass_on(*pair)
    os.close(shard)
    assert len(taken(environment, cleanup)) == 1


@pytest.mark.parametrize(
    ("host", "family", "bound", "v6only"),
    [
        ("127.0.0.1", socket.AF_INET, "127.0.0.1", None),
        ("0.0.0.0", socket.AF_INET, "0.0.0.0", None),
        ("", socket.AF_INET6, "::", 0),
        ("::", socket.AF_INET6, "::", 1),
        ("::1", socket.AF_INET6, "::1", 1),
    ],
)
def test_address_and_name(host, family, bound, v6only):
    with socket.socket(family, socket.SOCK_DGRAM) as sock:
        if v6only is not None:
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, v6only)
        sock.bind((bound, 0))
        port = sock.getsockname()[1]
        assert address_of(sock) == Address(host, port)
        assert key_of(sock).name == f"udp-{host.replace(':', '_') or 'any'}-{port}"


@pytest.mark.parametrize("lent", [True, False])
@pytest.mark.parametrize("host", ["0.0.0.0", "::"])
def test_a_server_for_all_addresses_uses_what_is_lent_for_one_family(host, lent, cleanup):
    """What it kept itself belonged to a server for one family; it would lose the other."""
    sock = cleanup.enter_context(socket.socket())
    sockets = {Key("udp", Address(host, 53)): Inherited(sock, lent)}
    found = claim(Key("udp", Address("", 53), scheme="tls"), sockets)
    assert (found is not None) is lent
    assert claim(Key("udp", Address("127.0.0.1", 53)), sockets) is None


@pytest.fixture(params=["path", "abstract"])
def inbox(request, tmp_path, cleanup):
    sock = cleanup.enter_context(socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM))
    name = (
        f"{tmp_path}/notify" if request.param == "path" else f"@corepy-test-{os.urandom(8).hex()}"
    )
    sock.bind(name.replace("@", "\0"))
    sock.settimeout(30)
    return sock, name


def test_states_arrive(inbox):
    sock, name = inbox
    Manager({"NOTIFY_SOCKET": name}).tell("RELOADING=1", "MONOTONIC_USEC=5")
    assert sock.recv(999) == b"RELOADING=1\nMONOTONIC_USEC=5"


def test_sockets_are_given_away_and_back(inbox, pair):
    sock, name = inbox
    manager = Manager({"NOTIFY_SOCKET": name})
    assert manager.keeps_sockets
    manager.keep(pair[:1])
    message, (fd,), _, _ = socket.recv_fds(sock, 999, 4)
    with socket.socket(fileno=fd) as kept:
        assert kept.getsockname() == pair[0].getsockname()
    fields = dict(line.split("=") for line in message.decode().split("\n"))
    assert fields == {"FDSTORE": "1", "FDPOLL": "0", "FDNAME": key_of(pair[0]).name}
    manager.release(pair[:1])
    assert sock.recv(999).decode() == f"FDSTOREREMOVE=1\nFDNAME={key_of(pair[0]).name}"


def test_nothing_waits_for_a_manager_that_is_stopped_to_take_the_state(inbox, pair, monkeypatch):
    sock, name = inbox
    monkeypatch.setattr(inherited, "PATIENCE", 0.0)
    manager = Manager({"NOTIFY_SOCKET": name})
    while manager.release_state():
        pass  # fills the queue of the socket
    assert not manager.keep_state(pair[0].fileno())
    assert not manager._is_held_up
    sock.recv(999)
    assert not manager.keep_state(
        pair[0].fileno()
    )  # the earlier one is removed, there is no new one
    sock.recv(999)
    sock.recv(999)
    assert manager.keep_state(pair[0].fileno())


@pytest.mark.parametrize(
    ("environment", "seconds"),
    [
        ({"WATCHDOG_USEC": "1500000"}, 1.5),
        ({"WATCHDOG_USEC": "1500000", "WATCHDOG_PID": str(os.getpid())}, 1.5),
        ({"WATCHDOG_USEC": "1500000", "WATCHDOG_PID": "1"}, 0),
        ({"WATCHDOG_USEC": "soon"}, 0),
        ({"WATCHDOG_USEC": "1"}, 0.1),
        ({}, 0),
    ],
)
def test_the_watchdog_interval(environment, seconds):
    given = {"NOTIFY_SOCKET": "/nowhere", **environment}
    assert Manager(given).watchdog == seconds
    assert given == {}


def test_without_a_manager_nothing_is_told():
    manager = Manager({"WATCHDOG_USEC": "1500000"})
    assert not manager.keeps_sockets
    assert not manager.watchdog
    manager.tell("READY=1")


def test_a_manager_that_is_gone_does_no_harm():
    Manager({"NOTIFY_SOCKET": "/nonexistent/notify"}).tell("READY=1")
