"""What makes nodecache look at the host again, and what its one-shot commands print."""

from __future__ import annotations

import asyncio
import errno
import json
import socket
from typing import TYPE_CHECKING

import pytest

from corepy.testing.netns import isolated, run
from corepy_nodecache import cli, legacy, watch
from corepy_nodecache.claims import Claims
from corepy_nodecache.legacy import LegacyTables
from corepy_nodecache.link import Links
from corepy_nodecache.model import MARK, Address, DesiredState, Family, HostError, UntrackedEndpoint
from corepy_nodecache.nft import NftTables
from corepy_nodecache.watch import LegacyFingerprint, Watch

if TYPE_CHECKING:
    from pathlib import Path

SLOW = 60.0
IP = "169.254.20.10"
RULES = DesiredState(endpoints=frozenset({UntrackedEndpoint("dns", IP, 53)})).rules()


@pytest.mark.parametrize(
    ("command", "is_nftables"),
    [
        ("ip link add eth9 type bridge", False),
        ("ip addr add 10.1.1.1/32 dev lo", False),
        ("ip addr add fd00::1/128 dev lo nodad", False),
        ("nft add table ip anything", True),
    ],
)
@isolated
def test_a_change_is_noticed(command: str, is_nftables: bool) -> None:
    async def work() -> None:
        changed = asyncio.Event()
        it = Watch(asyncio.get_running_loop(), changed.set)
        if is_nftables:
            it.add_nftables()
        await asyncio.to_thread(run, *command.split())
        async with asyncio.timeout(SLOW):
            await changed.wait()
        it.close()
        changed.clear()
        assert it._sockets == []
        await asyncio.to_thread(run, "ip", "link", "set", "lo", "down")
        await asyncio.sleep(0)
        assert not changed.is_set()

    asyncio.run(work())


@isolated
def test_one_transaction_is_one_message() -> None:
    sock = watch._nftables_socket()
    assert sock is not None
    with sock:
        lines = "".join(f"add table ip t{number}\n" for number in range(20))
        run("nft", "-f", "-", text=lines)
        assert sock.recv(1)
        with pytest.raises(BlockingIOError):
            sock.recv(1)


@isolated
def test_a_kernel_without_nftables_messages(monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[socket.socket] = []

    def refuse(sock: socket.socket, message_type: int) -> None:
        made.append(sock)
        raise OSError(errno.ENOPROTOOPT, "no filters")

    monkeypatch.setattr(watch, "_pass_only", refuse)

    async def work() -> None:
        it = Watch(asyncio.get_running_loop(), lambda: None)
        it.add_nftables()
        assert len(it._sockets) == 1
        it.close()

    asyncio.run(work())
    assert made[0].fileno() == -1


class Messages:
    """A socket whose next reads end in these ways; after them it is empty."""

    def __init__(self, *ends: BaseException | None) -> None:
        self.ends = list(ends)

    def recv(self, _size: int) -> bytes:
        end = self.ends.pop(0) if self.ends else BlockingIOError()
        if end:
            raise end
        return b"x"


@pytest.mark.parametrize(
    ("messages", "left"),
    [
        (Messages(None), 0),
        (Messages(OSError(errno.ENOBUFS, "lost"), None, None), 0),
        (Messages(None, BlockingIOError(), None), 1),
        (Messages(*[None] * 70), 6),
    ],
)
@isolated
def test_messages_of_one_wake_are_one_change(messages: Messages, left: int) -> None:
    async def work() -> None:
        changes: list[bool] = []
        it = Watch(asyncio.get_running_loop(), lambda: changes.append(True))
        it._drain(messages)  # type: ignore[arg-type]  # has all that it uses of a socket
        assert (changes, len(messages.ends)) == ([True], left)
        it.close()

    asyncio.run(work())


@isolated
def test_the_sizes_of_legacy_tables() -> None:
    sizes = LegacyFingerprint()
    assert sizes.read() == ()
    assert legacy.existing_tables(4) == set()
    LegacyTables().check([4])
    empty = sizes.read()
    assert len(empty) == 2
    assert empty == sizes.read()
    run("iptables-legacy", "-t", "raw", "-A", "OUTPUT", "-j", "ACCEPT")
    one = sizes.read()
    assert (one[0] == empty[0], one[1] == empty[1]) == (True, False)
    run("iptables-legacy", "-t", "raw", "-F")
    assert sizes.read() == empty
    LegacyTables().check([6])
    assert sizes.read()[:2] == empty
    assert len(set(sizes.read())) == 4
    made = list(sizes._sockets.values())
    assert sorted(it.family for it in made) == [socket.AF_INET, socket.AF_INET6]
    sizes.close()
    assert [it.fileno() for it in made] == [-1, -1]
    assert sizes._sockets == {}


@isolated
def test_sizes_that_cannot_be_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    LegacyTables().check([4])
    sizes = LegacyFingerprint()
    assert sizes._info(4, "nosuch") == b"No such file or directory"

    def refuse(*_: object) -> socket.socket:
        raise PermissionError(errno.EPERM, "no")

    sizes.close()
    monkeypatch.setattr(watch.socket, "socket", refuse)
    assert sizes.read() == (b"", b"")


@pytest.mark.parametrize(("family", "module"), [(4, "iptable"), (6, "ip6table")])
@isolated
def test_a_legacy_table_that_the_kernel_lacks(family: Family, module: str) -> None:
    with pytest.raises(HostError) as caught:
        legacy._open(family, "nosuch")
    assert caught.value.kind == "iptables"
    start, _, hint = str(caught.value).partition("; ")
    assert start.startswith(f"no legacy table nosuch for IPv{family}: can't initialize nosuch: ")
    assert hint == f"the kernel needs {module}_nosuch (modprobe it), or set: iptables nft"


@isolated
def test_legacy_tables_are_closed_after_use(monkeypatch: pytest.MonkeyPatch) -> None:
    iptc = legacy.load_iptc()

    def handles() -> list[object]:
        kept = (*iptc.Table._cache.values(), *iptc.Table6._cache.values())
        return [it._handle for it in kept if it._handle]

    tables = LegacyTables()
    tables.check([4, 6])
    assert handles() == []
    assert tables.reconcile(RULES, lambda _: True) == (10, 0)
    assert handles() == []
    assert legacy.survey(4, "raw") == (["PREROUTING", "OUTPUT"], 6)
    assert handles() == []

    def refuse(table: object) -> None:
        raise iptc.IPTCError("no room")

    with monkeypatch.context() as patch:
        patch.setattr(iptc.Table, "commit", refuse)
        with pytest.raises(HostError) as caught:
            tables.reconcile(set(), lambda _: True)
    assert str(caught.value) == "legacy table raw, IPv4: no room"
    assert caught.value.kind == "iptables"
    assert handles() == []
    assert set(tables.read()) == RULES


@isolated
def test_legacy_tables_are_unknown_without_proc(monkeypatch: pytest.MonkeyPatch) -> None:
    LegacyTables().check([4])
    assert legacy.existing_tables(4) == {"raw", "filter"}
    monkeypatch.setattr(legacy, "_NAMES_FILES", {4: "/nowhere/names"})
    assert legacy.existing_tables(4) == set()


def printed(capsys: pytest.CaptureFixture[str], *words: str) -> str:
    assert cli.main(list(words)) == cli.OK
    out, err = capsys.readouterr()
    assert err == ""
    return out


def block(path: Path, kind: str = "nft", ip: str = IP, more: str = "") -> Path:
    path.write_text(f".:53 {{\n bind {ip}\n nodecache {{\n iptables {kind}\n {more}\n }}\n}}\n")
    return path


def bridge() -> None:
    run("ip", "link", "add", "nodecache", "type", "bridge")
    run("ip", "link", "set", "nodecache", "alias", MARK)


@isolated
def test_the_status_as_a_table(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    assert (
        printed(capsys, "status") == "This host has no interfaces, addresses or rules of corepy.\n"
    )
    assert (
        printed(capsys, "teardown")
        == "This host had no interfaces, addresses or rules of corepy.\n"
    )
    bridge()
    run("ip", "addr", "add", "10.9.9.9/24", "dev", "nodecache")
    run("ip", "addr", "add", "10.8.8.8/32", "dev", "lo")
    Links().ensure([Address("nodecache", IP)])
    LegacyTables().reconcile(RULES, lambda _: True)
    run("ip", "link", "set", "nodecache", "down")
    mine = Claims()
    mine.hold(
        DesiredState(
            frozenset({Address("nodecache", IP)}),
            frozenset({UntrackedEndpoint("health", IP, 8080)}),
        )
    )
    assert printed(capsys, "status") == (
        "KIND     WHERE      WHAT                     STATE\n"
        "link     nodecache  bridge                   down\n"
        "address  nodecache  10.9.9.9                 not corepy's\n"
        "address  nodecache  169.254.20.10            corepy's\n"
        "rules    legacy     169.254.20.10 port 53    10\n"
        "claim    nodecache  169.254.20.10            wanted\n"
        "claim    health     169.254.20.10 port 8080  wanted\n"
    )
    assert cli.main(["teardown"]) == cli.FAILED
    assert capsys.readouterr() == (
        "",
        "corepy nodecache: corepy is running on this host and would restore everything:"
        " stop it first\n",
    )
    assert (
        printed(capsys, "teardown", "-force", "-json")
        == json.dumps(
            [
                {"done": "removed 10 rules from legacy iptables"},
                {"done": f"removed {IP} from nodecache"},
            ],
            indent=2,
        )
        + "\n"
    )
    mine.close()


@isolated
def test_the_status_of_rules(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    path = block(tmp_path / "Corefile")
    run("ip", "addr", "add", f"{IP}/32", "dev", "lo")
    # Rules of the same socket in the kind that is not chosen are surplus.
    LegacyTables().reconcile(RULES, lambda _: True)
    NftTables().reconcile(RULES, lambda _: True)
    rule = next(it for it in run("iptables-nft-save", "-t", "filter").splitlines() if "-A I" in it)
    run("iptables-nft-restore", "--noflush", text=f"*filter\n{rule}\nCOMMIT\n")
    run("iptables-nft", "-t", "raw", "-F")
    lines = printed(capsys, "status", "-conf", str(path)).splitlines()
    assert [line.split(maxsplit=2) for line in lines[1:]] == [
        ["link", "nodecache", "dummy                  missing"],
        ["address", "lo", f"{IP}          not corepy's"],
        ["rules", "legacy", f"{IP} port 53  10, 10 not wanted"],
        ["rules", "nft", f"{IP} port 53  4, 1 repeated, 6 missing"],
    ]


@isolated
def test_the_plan(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cli, "lacks_dummy", lambda: False)
    path = block(tmp_path / "Corefile", "off")
    words = ("plan", "-conf", str(path))
    assert printed(capsys, *words) == (
        f"ACTION  WHAT\nadd     interface nodecache\nadd     address {IP} on nodecache\n"
    )
    bridge()
    Links().ensure([Address("nodecache", it) for it in (IP, "10.0.0.1", "10.0.0.2")])
    neighbour = Claims()
    stale = UntrackedEndpoint("dns", "10.0.0.1", 53), UntrackedEndpoint("dns", "10.0.0.2", 53)
    neighbour.hold(
        DesiredState(frozenset({Address("nodecache", "10.0.0.2")}), frozenset({stale[1]}))
    )
    old = DesiredState(endpoints=frozenset(stale)).rules()
    NftTables().reconcile(old | RULES, lambda _: True)
    assert printed(capsys, *words) == ("ACTION  WHAT\nremove  address 10.0.0.1 on nodecache\n")
    block(path)
    lines = printed(capsys, *words).splitlines()
    assert len(lines) == 12
    assert lines[1] == (
        "remove  rule nft IPv4 filter INPUT -d 10.0.0.1/32 -p tcp -m tcp --dport 53"
        ' -m comment --comment "corepy nodecache" -j ACCEPT'
    )
    assert lines[-1] == "remove  address 10.0.0.1 on nodecache"
    neighbour.close()


@isolated
def test_a_corefile_that_cannot_be_read(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    assert cli.main(["plan", "-conf", f"{tmp_path}/none"]) == cli.FAILED
    assert capsys.readouterr() == (
        "",
        f"corepy nodecache: cannot read the Corefile {tmp_path}/none: No such file or directory\n",
    )
