"""nodecache's interface and addresses, against the kernel, in namespaces.

A kernel may lack the dummy driver, so a bridge takes the dummy's place where one is to be made.
"""

from __future__ import annotations

import contextlib
import errno
from typing import TYPE_CHECKING, Literal

import pytest

from corepy.testing.netns import addresses, isolated, run
from corepy_nodecache import link
from corepy_nodecache.link import Links, Placed
from corepy_nodecache.model import MARK, Address, HostError
from corepy_nodecache.rtnetlink import open_route, parts

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from pyroute2 import IPRoute

V4, V6 = Address("nodecache", "169.254.20.10"), Address("nodecache", "fd00::10")


class Route:
    """Rtnetlink, except that what makes a dummy runs `add` instead."""

    def __init__(self, route: IPRoute, add: Callable[[IPRoute, str], None]) -> None:
        self._route, self._add = route, add

    def __getattr__(self, name: str) -> object:
        return getattr(self._route, name)

    def link(self, command: Literal["add", "set", "del"], **options: object) -> object:
        if command == "add":
            assert options == {"ifname": "nodecache", "kind": "dummy"}
            return self._add(self._route, "nodecache")
        return self._route.link(command, **options)


@pytest.fixture
def making(monkeypatch: pytest.MonkeyPatch) -> Callable[[Callable[[IPRoute, str], None]], None]:
    """Let what is given run in place of making a dummy."""

    def use(add: Callable[[IPRoute, str], None]) -> None:
        @contextlib.contextmanager
        def opened(kind: str) -> Iterator[Route]:
            with open_route(kind) as route:
                yield Route(route, add)

        monkeypatch.setattr(link, "open_route", opened)

    return use


def make_bridge(route: IPRoute, name: str) -> None:
    route.link("add", ifname=name, kind="bridge")


def fail(code: int) -> Callable[[IPRoute, str], None]:
    def add(_route: IPRoute, _name: str) -> None:
        raise parts().error(code)

    return add


def bridge(name: str = "nodecache", *words: str) -> None:
    run("ip", "link", "add", name, "type", "bridge")
    if words:
        run("ip", "link", "set", name, *words)


def shown(name: str = "nodecache") -> str:
    return run("ip", "addr", "show", "dev", name)


@isolated
def test_a_link_is_made_marked_and_up(
    making: Callable[[Callable[[IPRoute, str], None]], None],
) -> None:
    making(make_bridge)
    links = Links()
    assert links.ensure([V6, V4]) == [
        "added interface nodecache",
        "added 169.254.20.10 to nodecache",
        "added fd00::10 to nodecache",
    ]
    now = links.read()
    made = now.links["nodecache"]
    assert (made.name, made.kind, made.is_up, made.is_ours) == ("nodecache", "bridge", True, True)
    assert now.links["lo"][2:] == ("", True, False, False)
    assert addresses("nodecache") == ["169.254.20.10/32", "fd00::10/128"]
    # No duplicate address detection: sockets could not bind to a tentative address.
    six = next(line for line in shown().splitlines() if "fd00::10/128" in line)
    assert "nodad" in six.split()
    assert sorted(now.ours()) == [V4, V6]
    assert links.ensure([V4, V6]) == []
    assert links.remove([V4, V6]) == [
        "removed 169.254.20.10 from nodecache",
        "removed fd00::10 from nodecache",
        "removed interface nodecache",
    ]
    assert "nodecache" not in links.read().links


@isolated
def test_a_link_that_another_process_made_meanwhile_is_used(
    making: Callable[[Callable[[IPRoute, str], None]], None],
) -> None:
    def add(route: IPRoute, name: str) -> None:
        make_bridge(route, name)
        make_bridge(route, name)

    making(add)
    assert Links().ensure([V4])[-1] == "added 169.254.20.10 to nodecache"
    assert not Links().read().links["nodecache"].is_ours  # the other process marks it


@pytest.mark.parametrize(
    ("code", "message"),
    [
        (
            errno.EOPNOTSUPP,
            "this kernel has no dummy driver: load the module (modprobe dummy), or make an"
            " interface nodecache of another type, or write `device off` and add the addresses"
            " yourself",
        ),
        (errno.EPERM, "rtnetlink: Operation not permitted"),
    ],
)
@isolated
def test_a_link_that_cannot_be_made(
    making: Callable[[Callable[[IPRoute, str], None]], None], code: int, message: str
) -> None:
    making(fail(code))
    with pytest.raises(HostError) as caught:
        Links().ensure([V4])
    assert (caught.value.kind, str(caught.value)) == ("interface_add", message)


@isolated
def test_a_link_that_is_down_is_set_up() -> None:
    bridge()
    assert not Links().read().links["nodecache"].is_up
    assert Links().ensure([]) == []
    assert Links().ensure([V4])[0] == "set nodecache up"
    assert Links().read().links["nodecache"].is_up
    assert Links().ensure([V4]) == []


@isolated
def test_an_address_that_comes_meanwhile_is_no_error() -> None:
    bridge()
    with open_route("interface_add") as route:
        number = Links().read().links["nodecache"].number
        link._add(route, number, V4)
        link._add(route, number, V4)
    assert addresses("nodecache") == ["169.254.20.10/32"]


@isolated
def test_what_the_kernel_refuses_is_one_line() -> None:
    with (
        pytest.raises(HostError) as caught,
        open_route("interface_add") as route,
    ):
        link._add(route, 4711, V4)
    assert (caught.value.kind, str(caught.value)) == ("interface_add", "rtnetlink: No such device")
    with pytest.raises(HostError) as caught, open_route("interface_check"):
        raise OSError(errno.EMFILE, "Too many open files")
    assert caught.value.kind == "interface_check"
    assert str(caught.value) == "rtnetlink: [Errno 24] Too many open files"


@isolated
def test_only_what_is_ours_and_empty_goes() -> None:
    bridge("nodecache", "alias", MARK, "up")
    bridge("other", "up")
    run("ip", "addr", "add", "10.9.9.9/32", "dev", "other")
    theirs = Address("other", "10.9.9.9")
    links = Links()
    links.ensure([V4, V6, Address("other", "10.8.8.8")])
    assert links.remove([theirs]) == []
    assert links.remove([V4]) == ["removed 169.254.20.10 from nodecache"]
    assert links.remove([Address("nodecache", "10.1.1.1"), Address("gone", "10.1.1.1")]) == []
    assert links.remove_all() == [
        "removed fd00::10 from nodecache",
        "removed 10.8.8.8 from other",
        "removed interface nodecache",
    ]
    assert addresses("other") == ["10.9.9.9/32"]
    assert links.remove_all() == []


@isolated
def test_a_link_of_ours_with_a_foreign_address_stays() -> None:
    bridge("nodecache", "alias", MARK)
    run("ip", "addr", "add", "10.9.9.9/24", "dev", "nodecache")
    assert Links().remove_all() == []
    run("ip", "addr", "flush", "dev", "nodecache")
    run("ip", "addr", "add", "fe80::1/64", "dev", "nodecache", "nodad")
    assert Links().remove_all() == ["removed interface nodecache"]


@isolated
def test_the_snapshot_tells_devices_apart() -> None:
    bridge("nodecache", "addrgenmode", "none", "up")
    bridge("other", "addrgenmode", "none", "up")
    run("ip", "addr", "add", "10.1.1.1", "peer", "10.1.1.2", "dev", "other")
    run("ip", "addr", "add", "fe80::1/64", "dev", "other", "nodad")
    run("ip", "addr", "add", "10.2.2.2/32", "dev", "nodecache")
    run("ip", "addr", "add", "10.2.2.2/32", "dev", "other")
    now = Links().read()
    on = sorted(it.ip for it in now.on("other"))
    assert on == ["10.1.1.1", "10.2.2.2"]  # the peer is another host's address
    assert now.elsewhere(Address("nodecache", "10.1.1.1")) == "other"
    assert now.elsewhere(Address("other", "10.1.1.1")) == ""
    assert now.elsewhere(Address("nodecache", "10.2.2.2")) == "other"
    assert now.elsewhere(Address("nodecache", "10.3.3.3")) == ""
    assert Placed("other", "fe80::1", False).is_link_local
    assert now.ours() == []


@isolated
def test_an_old_kernel_marks_no_addresses(monkeypatch: pytest.MonkeyPatch) -> None:
    """There, host addresses on a link of ours are ours, and no others."""
    monkeypatch.setattr(link, "kernel_keeps_protocol", lambda release: release == "6.0")
    bridge("nodecache", "alias", MARK)
    bridge("other")
    for ip, device in (
        ("10.1.1.1/32", "nodecache"),
        ("10.1.1.2/24", "nodecache"),
        ("fd00::1/128", "nodecache"),
        ("fd00::2/64", "nodecache"),
        ("10.1.1.3/32", "other"),
    ):
        run("ip", "addr", "add", ip, "dev", device, *(["nodad"] if ":" in ip else []))
    assert sorted(Links().read().ours()) == [
        Address("nodecache", "10.1.1.1"),
        Address("nodecache", "fd00::1"),
    ]
    monkeypatch.setattr(link.os, "uname", lambda: type("Name", (), {"release": "6.0"}))
    assert Links().read().ours() == []
