"""Files in the style of resolv.conf as they are found on hosts: what is used of each, and why."""

import errno
import os
import socket
import threading
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from corepy.plugin.reading import file_version, read_file
from corepy.plugin.resolv_conf import MOST_BYTES
from corepy.testing import refusal, set_up
from corepy_forward.resolve import read_resolv_conf
from corepy_forward.targets import ToAddress, parse_target
from corepy_forward.usable import choose

V4, V6 = "192.0.2.1:53", "[2001:db8::1]:53"
LINK = "[fe80::1%eth0]:53"

CONTENTS = {
    # what it is: content, addresses that are used, part of each problem that is told
    "plain": (b"nameserver 192.0.2.1\n", [V4], []),
    "two, in their order": (
        b"nameserver 2001:db8::1\nnameserver 192.0.2.1\n",
        [V6, V4],
        [],
    ),
    # resolv.conf(5): the C library stops at three; CoreDNS takes all.
    "more than three": (
        b"".join(b"nameserver 192.0.2.%d\n" % n for n in range(1, 6)),
        [f"192.0.2.{n}:53" for n in range(1, 6)],
        [],
    ),
    # A generated file gone wrong must not cost a socket and a probe for each line.
    "far too many": (
        b"".join(b"nameserver 192.0.%d.%d\n" % (n // 200, n % 200) for n in range(400)),
        [f"192.0.0.{n}:53" for n in range(64)],
        ["conf:65: more than 64 name servers"],
    ),
    "the other keywords": (
        b"domain a.example\nsearch a b\nsortlist 10.0.0.0/8\noptions ndots:5 rotate edns0\n"
        b"lookup file bind\nnameserver 192.0.2.1\n",
        [V4],
        [],
    ),
    "keyword in capitals": (b"NameServer 192.0.2.9\nnameserver 192.0.2.1\n", [V4], []),
    "a longer keyword": (b"nameservers 192.0.2.9\nnameserver 192.0.2.1\n", [V4], []),
    "lines of Windows": (b"nameserver 192.0.2.1\r\nnameserver 2001:db8::1\r\n", [V4, V6], []),
    "lines of an old Mac": (b"nameserver 192.0.2.1\rnameserver 192.0.2.2\r", [V4], []),
    "no line feed at the end": (b"nameserver 192.0.2.1", [V4], []),
    "byte order mark": (b"\xef\xbb\xbfnameserver 192.0.2.1\n", [V4], []),
    "tabs and spaces": (b" \tnameserver\t \t192.0.2.1 \t\n", [V4], []),
    "form feed and vertical tab": (b"nameserver\x0b192.0.2.1\x0c\n", [V4], []),
    "comments": (
        b"# nameserver 192.0.2.8\n;nameserver 192.0.2.9\n  # x\nnameserver 192.0.2.1\n",
        [V4],
        [],
    ),
    "a comment behind": (b"nameserver 192.0.2.1 # mine\n", [V4], []),
    "a comment that touches": (
        b"nameserver 192.0.2.9#mine\nnameserver 192.0.2.1\n",
        [V4],
        ["conf:1: not an IP address: '192.0.2.9#mine'"],
    ),
    "no address": (b"nameserver\nnameserver 192.0.2.1\n", [V4], ["conf:1: nameserver without"]),
    "two on a line": (
        b"nameserver 192.0.2.1 2001:db8::1\n",
        [V4],
        ["conf:1: only the first address of a line is used: 192.0.2.1"],
    ),
    "two with a comma": (
        b"nameserver 192.0.2.8,192.0.2.9\nnameserver 192.0.2.1\n",
        [V4],
        ["one address a line"],
    ),
    "a port": (
        b"nameserver 192.0.2.9:5353\nnameserver [2001:db8::9]:53\nnameserver 192.0.2.1\n",
        [V4],
        ["conf:1: not an IP address: '192.0.2.9:5353' (such a file names no ports", "conf:2:"],
    ),
    # The C library's inet_aton(3) takes these for addresses; Go does not, and nobody means them.
    "short and octal": (
        b"nameserver 10.1\nnameserver 010.0.0.1\nnameserver 192.0.2.1\n",
        [V4],
        ["'10.1'", "'010.0.0.1'"],
    ),
    "out of range": (b"nameserver 192.0.2.300\nnameserver 192.0.2.1\n", [V4], ["192.0.2.300"]),
    "a name": (b"nameserver dns.example\nnameserver 192.0.2.1\n", [V4], ["'dns.example'"]),
    "a URL": (b"nameserver tls://192.0.2.9\nnameserver 192.0.2.1\n", [V4], ["tls://"]),
    "brackets": (b"nameserver [2001:db8::9]\nnameserver 192.0.2.1\n", [V4], ["not an IP"]),
    "twice": (b"nameserver 192.0.2.1\nnameserver 192.0.2.1\n", [V4], []),
    "twice in two spellings": (b"nameserver 2001:DB8:0::1\nnameserver 2001:db8::1\n", [V6], []),
    "IPv4-mapped": (b"nameserver ::ffff:192.0.2.1\n", [V4], []),
    # RFC 4007: a zone means nothing for these; CoreDNS drops every zone.
    "zone of a global address": (b"nameserver 2001:db8::1%en0\n", [V6], []),
    "zone of an IPv4 address": (b"nameserver 192.0.2.1%eth0\n", [V4], []),
    "zone of a link-local address": (b"nameserver fe80::1%eth0\n", [LINK], []),
    "two addresses, and a zone that is not UTF-8": (
        b"nameserver 192.0.2.1%\xff 192.0.2.2\n",
        [V4],
        ["only the first address of a line is used: 192.0.2.1"],
    ),
    "zone that is not UTF-8": (b"nameserver fe80::1%\xff\n", [r"[fe80::1%\udcff]:53"], []),
    "the same address on two links": (
        b"nameserver fe80::1%eth0\nnameserver fe80::1%eth1\n",
        [LINK, "[fe80::1%eth1]:53"],
        [],
    ),
    "link-local without a zone": (
        b"nameserver fe80::9\nnameserver fe80::9%\nnameserver 192.0.2.1\n",
        [V4],
        ["conf:1: a link-local address needs its network interface", "conf:2:"],
    ),
    "addresses of many": (
        b"nameserver 255.255.255.255\nnameserver 224.0.0.1\nnameserver ff02::1\n"
        b"nameserver 192.0.2.1\n",
        [V4],
        ["conf:1: 255.255.255.255 is not", "conf:2:", "conf:3:"],
    ),
    "not UTF-8": (b"# caf\xe9\nsearch \xff\xfe\nnameserver 192.0.2.1\n", [V4], []),
    "NUL bytes of a crash": (b"\0" * 200 + b"\nnameserver 192.0.2.1\n", [V4], []),
    "a NUL byte in an address": (
        b"nameserver 192.0.2.9\0\nnameserver 192.0.2.1\n",
        [V4],
        ["conf:1: not an IP address: '192.0.2.9\\x00'"],
    ),
    "a very long line": (
        b"search " + b"a " * 100_000 + b"\nnameserver " + b"9" * 100_000 + b"\n"
        b"nameserver 192.0.2.1\n",
        [V4],
        ["conf:2: not an IP address: '999"],
    ),
    "many bad lines": (
        b"nameserver x\n" * 1000 + b"nameserver 192.0.2.1\n",
        [V4],
        [*(f"conf:{n}: not an IP address" for n in range(1, 6)), "conf: 995 more lines"],
    ),
    "UTF-16": ("\ufeffnameserver 192.0.2.1\n".encode("utf-16-le"), [], []),
    "empty": (b"", [], []),
    "one empty line": (b"\n", [], []),
    "only options": (b"search example.org\noptions ndots:5\n", [], []),
}


@pytest.mark.parametrize("case", CONTENTS)
def test_content(tmp_path: Path, case: str):
    content, addresses, problems = CONTENTS[case]
    path = tmp_path / "conf"
    path.write_bytes(content)
    text = f"forward . {path} 192.0.2.77"
    controller = set_up(text)
    (handler,) = controller.handlers
    assert [t.address for t in handler.static_targets()] == [*addresses, "192.0.2.77:53"]
    told = [warning.message for warning in controller.warnings]
    assert len(told) == len(problems)
    for message, part in zip(told, problems, strict=True):
        assert message.startswith(str(tmp_path))
        assert part in message.encode().decode()  # no surrogates, which cannot be printed
        assert len(message) < 300
    if addresses:
        assert set_up(f"forward . {path}").handlers
    else:
        refused = refusal(f"forward . {path}")
        assert refused.message == "no valid upstream addresses found"


def fifo(path: Path) -> None:
    os.mkfifo(path)


def unix_socket(path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as sock:
        sock.bind(str(path))


def too_large(path: Path) -> None:
    with path.open("wb") as file:
        file.truncate(MOST_BYTES + 1)


@pytest.mark.parametrize(
    ("make", "reason"),
    [
        (lambda path: None, "no such file: "),
        (lambda path: path.symlink_to("nowhere"), "no such file: "),
        (lambda path: path.symlink_to("conf"), "no such file: "),
        (Path.mkdir, "Is a directory"),
        (fifo, "not a regular file but a FIFO"),
        (unix_socket, "No such device or address"),
        (lambda path: path.symlink_to("/dev/zero"), "not a regular file but a device"),
        (too_large, "larger than 1024 KiB"),
    ],
    ids=["missing", "dangling", "loop", "folder", "FIFO", "socket", "device", "huge"],
)
def test_what_is_no_file_is_refused_at_once(tmp_path: Path, make, reason: str):
    path = tmp_path / "conf"
    make(path)
    refused = refusal(f"forward . {path} 192.0.2.77")
    assert reason in refused.message
    assert str(path) in refused.message


@pytest.mark.parametrize("make", [Path.mkdir, fifo, too_large])
def test_a_look_leaves_no_descriptor_open(tmp_path: Path, make):
    """The file is looked at every second."""
    path = tmp_path / "conf"
    make(path)
    before = os.listdir("/proc/self/fd")
    for _ in range(20):
        with pytest.raises(ValueError, match="cannot read"):
            read_resolv_conf(path)
    assert len(os.listdir("/proc/self/fd")) <= len(before) + 1


def test_a_file_that_may_not_be_read(tmp_path: Path):
    """Root may read everything, so another user tries."""
    path = tmp_path / "conf"
    path.write_text("nameserver 192.0.2.1\n")
    path.chmod(0)
    child = os.fork()
    if not child:
        os.setgid(65534)
        os.setuid(65534)
        try:
            read_resolv_conf(path)
        except ValueError as error:
            os._exit(0 if str(error) == f"cannot read {str(path)!r}: Permission denied" else 2)
        os._exit(3)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


def test_links_are_followed_and_a_swapped_link_is_another_version(tmp_path: Path):
    """As Kubernetes swaps the files of a ConfigMap: a link to a folder, replaced as a whole."""
    for number in (1, 2):
        (tmp_path / f"data{number}").mkdir()
        (tmp_path / f"data{number}" / "conf").write_text(f"nameserver 192.0.2.{number}\n")
    (tmp_path / "data").symlink_to("data1")
    path = tmp_path / "data" / "conf"
    before = file_version(path)
    assert [s.target.host for s in read_resolv_conf(path).servers] == ["192.0.2.1"]
    (tmp_path / "new").symlink_to("data2")
    os.replace(tmp_path / "new", tmp_path / "data")
    assert file_version(path) != before
    assert [s.target.host for s in read_resolv_conf(path).servers] == ["192.0.2.2"]


def test_a_file_that_was_just_written_has_no_version_yet(tmp_path: Path):
    """A second change within one tick of the clock of the file system may leave no trace."""
    path = tmp_path / "conf"
    path.write_text("nameserver 192.0.2.1\n")
    assert read_file(path)[1] is None
    os.utime(path, (1, 1))
    assert read_file(path)[1] == file_version(path)


def test_a_file_replaced_again_and_again_is_never_seen_half(tmp_path: Path):
    path = tmp_path / "conf"
    contents = ["nameserver 192.0.2.1\n" * 200, "nameserver 192.0.2.2\n" * 200]
    path.write_text(contents[0])
    done = threading.Event()

    def replace() -> None:
        for number in range(300):
            other = tmp_path / "other"
            other.write_text(contents[number % 2])
            os.replace(other, path)
        done.set()

    thread = threading.Thread(target=replace)
    thread.start()
    while not done.is_set():
        assert len({s.target.host for s in read_resolv_conf(path).servers}) == 1
    thread.join()


PRINTABLE = (
    "nameserver 192.0.2.1 127.0.0.1 ::1 fe80::1 fe80::1%lo fe80::1%nope % : [::1]:53 # ;"
    " ::ffff:127.0.0.1 255.255.255.255 ::"
)
WORDS = st.sampled_from([*PRINTABLE.split(), "\r", "\t", "\0", "\ufeff"])
LINES = st.lists(WORDS | st.text(max_size=12), max_size=4).map(" ".join)


@settings(
    max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(st.lists(LINES, max_size=6).map("\n".join).map(str.encode) | st.binary(max_size=200))
def test_whatever_a_file_says_sockets_can_be_opened_to_what_is_left(tmp_path: Path, content: bytes):
    """No line makes anything fail: what is chosen can be connected to."""
    path = tmp_path / "conf"
    path.write_bytes(content)
    contents = read_resolv_conf(path)
    targets = [server.target for server in contents.servers]
    entry = ToAddress(str(path), targets, file=path, problems=contents.problems)
    choice = choose([entry], [("127.0.0.1", 53)])
    assert "127.0.0.1" not in {target.host for target in choice.targets}
    for target in choice.targets:
        with socket.socket(target.family, socket.SOCK_DGRAM) as sock:
            try:
                sock.connect(target.sockaddr)
            except OSError as error:
                assert error.errno in (errno.ENETUNREACH, errno.EHOSTUNREACH)  # noqa: PT017 - both


@settings(max_examples=500, deadline=None)
@given(st.lists(WORDS | st.text(max_size=12), max_size=4).map("".join) | st.text(max_size=400))
def test_whatever_a_word_is_it_is_an_upstream_or_a_mistake(text: str):
    try:
        entry = parse_target(text)
    except ValueError:
        return
    for target in entry.targets:
        assert target.sockaddr[1] == target.port
