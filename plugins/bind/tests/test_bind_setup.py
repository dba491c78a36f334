"""What *bind* accepts and what it sets; the table holds the cases of CoreDNS's setup test."""

import subprocess
import sys

import pytest

from corepy.plugin import Controller, ListenHosts
from corepy.testing import refusal, set_up
from corepy_bind.setup import parse_ip


def listen_hosts(controller: Controller) -> list[str]:
    return list(controller.config.get(ListenHosts).hosts)


@pytest.mark.parametrize(
    ("text", "hosts"),
    [
        ("bind 1.2.3.4", ["1.2.3.4"]),
        ("bind 1.2.3.4 ::5", ["1.2.3.4", "::5"]),
        ("bind ::1 1.2.3.4 ::5 127.9.9.0", ["::1", "1.2.3.4", "::5", "127.9.9.0"]),
        ("bind 1.2.3.4\nbind ::5", ["1.2.3.4", "::5"]),
        ("bind 0.0.0.0 ::", ["0.0.0.0", "::"]),
        ("bind 2001:DB8:0::1", ["2001:db8::1"]),
        ("bind ::ffff:1.2.3.4", ["1.2.3.4"]),
        ("bind 1.2.3.4 ::5 {\nexcept ::5\n}", ["1.2.3.4"]),
        ("bind 1.2.3.4 ::5 {\nexcept 0:0::5\n}", ["1.2.3.4"]),
        ("bind 1.1.1.1 2.2.2.2 3.3.3.3 {\nexcept 1.1.1.1\nexcept 3.3.3.3\n}", ["2.2.2.2"]),
        ("bind fe80::53%d0 FE80:0::53%eth0", ["fe80::53%d0", "fe80::53%eth0"]),
        ("bind fe80::53%3", ["fe80::53%3"]),
        ("bind fe80::53%d0 fe80::53%d1 ::5 {\nexcept fe80::53%d0\n}", ["fe80::53%d1", "::5"]),
        ("bind fe80::53%d0 ::5 {\nexcept fe80::53\n}", ["::5"]),
        ("bind 1.1.1.1 {\nexcept 1.1.1.1\n}\nbind 1.1.1.1 2.2.2.2", ["1.1.1.1", "2.2.2.2"]),
    ],
)
def test_listens_on(text: str, hosts: list[str]) -> None:
    controller = set_up(text)
    assert listen_hosts(controller) == hosts
    assert not controller.warnings
    assert not controller.handlers


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("bind", "at least one address or interface"),
        ("bind {\nexcept ::1\n}", "at least one address or interface"),
        ("bind 1.2.3.invalid", "not a valid IP address or interface name: '1.2.3.invalid'"),
        ("bind ::1 1.2.3.4 ::5 127.9.9.0 noone", "'noone'"),
        ("bind 1.2.3.04", "'1.2.3.04'"),
        ("bind 2001:db8::1%lo", "not a valid IP address with a zone: '2001:db8::1%lo'"),
        ("bind 1.2.3.4%lo", "not a valid IP address with a zone"),
        ("bind lo%lo", "not a valid IP address with a zone"),
        ("bind fe80::1%", "not a valid IP address with a zone"),
        ("bind fe80::1%a%b", "not a valid IP address with a zone"),
        ("bind fe80::1%a/b", "not a valid IP address with a zone"),
        ("bind fe80::1%an-interface-too-long", "not a valid IP address with a zone"),
        ("bind fe80::1", "a link-local address needs its network interface: 'fe80::1'"),
        ("bind fe80::1%a FE80:0::1%a", "fe80::1%a is bound twice"),
        ("bind ::1 {\nexcept\n}", "at least one address or interface"),
        ("bind ::1 {\nexcept noone\n}", "'noone'"),
        ("bind ::1 {\nonly ::1\n}", "unknown option 'only'"),
        ("bind 1.2.3.4 1.2.3.4", "1.2.3.4 is bound twice"),
        ("bind lo\nbind 127.0.0.1", "127.0.0.1 is bound twice"),
    ],
)
def test_refuses(text: str, message: str) -> None:
    assert message in refusal(text).message


def test_points_at_the_argument() -> None:
    diagnostic = refusal("bind 127.0.0.1 noone")
    assert diagnostic.token is not None
    assert (diagnostic.token.text, diagnostic.token.line) == ("noone", 2)
    assert "lo" in (diagnostic.hint or "")


def test_an_interface_stands_for_its_addresses() -> None:
    hosts = listen_hosts(set_up("bind 1.2.3.4 lo"))
    assert hosts[:2] == ["1.2.3.4", "127.0.0.1"]
    rest = listen_hosts(set_up("bind lo {\nexcept 127.0.0.1\n}"))
    assert rest == hosts[2:]
    assert listen_hosts(set_up("bind 1.2.3.4 lo {\nexcept lo\n}")) == ["1.2.3.4"]


def test_warns_of_a_block_that_listens_nowhere() -> None:
    controller = set_up("bind 1.2.3.4 {\nexcept 1.2.3.4\n}")
    assert controller.config.get(ListenHosts).hosts == ()
    assert "answers nothing" in controller.warnings[0].message


@pytest.mark.parametrize(
    ("text", "address"),
    [
        # What Go's net.ParseIP says to the same texts; zones are ours.
        ("1.2.3.4", "1.2.3.4"),
        ("01.2.3.4", None),
        ("1.2.3", None),
        ("1.2.3.256", None),
        ("1.2.3.4 ", None),
        ("0x1.2.3.4", None),
        ("::", "::"),
        ("::1.2.3.4", "::102:304"),
        ("::FFFF:1.2.3.4", "1.2.3.4"),
        ("::ffff:01.2.3.4", None),
        ("1:2:3:4:5:6:7::", "1:2:3:4:5:6:7:0"),
        ("1:2:3:4:5:6:7:8::", None),
        ("1::2::3", None),
        ("fe80::1%eth0", "fe80::1%eth0"),
        ("FE80:0::1%eth0", "fe80::1%eth0"),
        ("2001:db8::1%eth0", None),
        ("1.2.3.4%eth0", None),
        ("fe80::1%", None),
        ("00001::", None),
        ("[::1]", None),
        ("", None),
        ("\u0661.2.3.4", None),
        ("167772161", None),
    ],
)
def test_what_an_address_is(text: str, address: str | None) -> None:
    assert parse_ip(text) == address


def test_setup_makes_no_python_socket() -> None:
    program = """if True:
        import sys
        from corepy.plugin import ListenHosts
        from corepy.testing import set_up

        def forbid(event, args):
            if event.startswith("socket."):
                raise AssertionError(event)

        sys.addaudithook(forbid)
        print(set_up("bind lo").config.get(ListenHosts).hosts[0])
    """
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert (done.stdout, done.stderr) == ("127.0.0.1\n", "")
