"""The programs of iptables-nft, the kernel's notifications and the plan, without a host."""

from __future__ import annotations

import subprocess
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest

from corepy.plugin import CorefileError
from corepy.testing import controller_for
from corepy_nodecache import nft, survey, watch
from corepy_nodecache.blocks import Plan
from corepy_nodecache.link import Link, Placed, Snapshot
from corepy_nodecache.model import (
    Address,
    DesiredState,
    FilterRule,
    HostError,
    UntrackedEndpoint,
    rules_for,
    spec,
)
from corepy_nodecache.nft import NftTables
from corepy_nodecache.settings import Settings
from corepy_nodecache.setup import parse

if TYPE_CHECKING:
    from collections.abc import Callable, Collection

    from corepy_nodecache.model import Family

A, B = "10.0.0.1", "10.0.0.2"
RULES = rules_for(UntrackedEndpoint("dns", A, 53))
OTHERS = rules_for(UntrackedEndpoint("dns", B, 53))
SIX = rules_for(UntrackedEndpoint("health", "fd00::10", 8080))


class Programs:
    """Programs that answer as the test says, by their names."""

    def __init__(self) -> None:
        self.found: dict[str, str] = {}
        self.asked: list[tuple[str, str]] = []
        self.runs: list[tuple[list[str], bytes]] = []
        self.results: list[tuple[int, bytes, bytes]] = []

    def which(self, name: str, *, path: str) -> str | None:
        self.asked.append((name, path))
        return self.found.get(name)

    def run(self, command: list[str], text: bytes = b"") -> subprocess.CompletedProcess[bytes]:
        self.runs.append((command, text))
        code, out, errors = self.results.pop(0)
        return subprocess.CompletedProcess(command, code, out, errors)


@pytest.fixture
def programs(monkeypatch: pytest.MonkeyPatch) -> Programs:
    made = Programs()
    monkeypatch.setattr(nft, "shutil", SimpleNamespace(which=made.which))
    monkeypatch.setattr(nft, "_run", made.run)
    monkeypatch.setattr(nft, "program", nft.program.__wrapped__)
    monkeypatch.setenv("PATH", "/bin")
    return made


def test_which_program_is_used(programs: Programs) -> None:
    path = "/bin:/usr/sbin:/sbin"
    assert nft.program(4, "save") is None
    assert programs.asked == [("iptables-nft-save", path), ("iptables-save", path)]
    programs.found["iptables-save"] = "/sbin/iptables-save"
    programs.results = [
        (0, b"iptables-save v1.8.9 (legacy)\n", b""),
        (0, b"iptables-save v1.8.9 (nf_tables)\n", b""),
    ]
    assert nft.program(4, "save") is None
    assert nft.program(4, "save") == "/sbin/iptables-save"
    assert programs.runs == [(["/sbin/iptables-save", "--version"], b"")] * 2
    programs.found["ip6tables-nft-restore"] = "/sbin/ip6tables-nft-restore"
    assert nft.program(6, "restore") == "/sbin/ip6tables-nft-restore"
    assert len(programs.runs) == 2


def test_what_the_programs_answer(programs: Programs) -> None:
    assert nft.save(4, "raw") is None
    message = "no iptables-nft-restore found: install the package iptables"
    assert nft._restore(4, "") == message
    for task in ("save", "restore"):
        programs.found[f"iptables-nft-{task}"] = f"/sbin/iptables-nft-{task}"
    programs.results = [
        (0, b"*raw\n", b"a warning"),
        (1, b"*raw\n", b""),
        (0, b"", b"a warning"),
        (1, b"", b"no\n such   table"),
        (4, b"", b" \n"),
    ]
    assert [nft.save(4, "raw") for _ in range(2)] == ["*raw\n", None]
    assert [nft._restore(4, "text") for _ in range(3)] == [
        "", "iptables-nft-restore: no such table", "iptables-nft-restore: exit code 4"
    ]  # fmt: skip
    assert programs.runs == [
        *[(["/sbin/iptables-nft-save", "-t", "raw"], b"")] * 2,
        *[(["/sbin/iptables-nft-restore", "--noflush"], b"text")] * 3,
    ]


@pytest.mark.parametrize("error", [None, OSError("gone"), subprocess.TimeoutExpired("x", 10)])
def test_a_program_that_hangs_or_is_gone(
    monkeypatch: pytest.MonkeyPatch, error: Exception | None
) -> None:
    seen: list[tuple[object, dict[str, object]]] = []
    done = subprocess.CompletedProcess(["x"], 3, b"out", b"errors")

    def run(command: object, **options: object) -> subprocess.CompletedProcess[bytes]:
        seen.append((command, options))
        if error is not None:
            raise error
        return done

    monkeypatch.setattr(nft.subprocess, "run", run)
    found = nft._run(["x", "-y"], b"text")
    options = {"input": b"text", "capture_output": True, "timeout": 10.0, "check": False}
    assert seen == [(["x", "-y"], options)]
    if error is None:
        assert found is done
    else:
        assert (found.returncode != 0, found.stdout) == (True, b"")
        assert found.stderr == str(error).encode()


class Attempts:
    """Transactions of which the first ones fail."""

    def __init__(self, failures: int) -> None:
        self.failures = failures
        self.texts: list[tuple[Family, str]] = []

    def restore(self, family: Family, text: str) -> str:
        self.texts.append((family, text))
        return "busy" if len(self.texts) <= self.failures else ""


def reading(found: dict[Family, list[FilterRule]]) -> Callable[..., list[FilterRule]]:
    def marked(family: Family, adopted: object = (), must: bool = False) -> list[FilterRule]:
        return found.get(family, [])

    return marked


@pytest.mark.parametrize("failures", [0, 1, 2, 3, 9])
def test_a_transaction_is_tried_three_times(monkeypatch: pytest.MonkeyPatch, failures: int) -> None:
    attempts = Attempts(failures)
    monkeypatch.setattr(nft, "_restore", attempts.restore)
    monkeypatch.setattr(nft, "_marked", reading({4: [*OTHERS[:2], RULES[0]]}))

    def reconcile() -> tuple[int, int]:
        return nft._reconcile_family(4, {*RULES, *SIX}, lambda _: True)

    if failures < 3:
        assert reconcile() == (9, 2)
    else:
        with pytest.raises(HostError, match="busy") as caught:
            reconcile()
        assert caught.value.kind == "iptables"
    text = nft.transaction(sorted(RULES[1:]), [*OTHERS[:2]])
    assert attempts.texts == [(4, text)] * min(failures + 1, 3)


def test_a_family_that_is_as_wanted_is_not_written(monkeypatch: pytest.MonkeyPatch) -> None:
    attempts = Attempts(0)
    monkeypatch.setattr(nft, "_restore", attempts.restore)
    monkeypatch.setattr(nft, "_marked", reading({4: [*RULES]}))
    assert nft._reconcile_family(4, {*RULES}, lambda _: True) == (0, 0)
    assert nft._reconcile_family(6, {*RULES}, lambda _: True) == (0, 0)
    assert nft._reconcile_family(4, set(), lambda _: False) == (0, 0)
    assert attempts.texts == []
    assert nft._reconcile_family(4, set(), lambda _: True) == (0, 10)


def test_the_text_of_a_transaction() -> None:
    raw, accept = RULES[0], RULES[3]
    assert (raw.table, accept.table) == ("raw", "filter")
    other = OTHERS[0]
    assert nft.transaction([raw, accept], [other]) == (
        f"*filter\n-I {spec(accept)}\nCOMMIT\n*raw\n-D {spec(other)}\n-I {spec(raw)}\nCOMMIT\n"
    )
    assert nft.transaction([], [raw, accept]) == (
        f"*raw\n-D {spec(raw)}\nCOMMIT\n*filter\n-D {spec(accept)}\nCOMMIT\n"
    )
    assert nft.transaction([], []) == ""
    assert nft._there_and_back([raw, accept, other]) == (
        f"*filter\n-I {spec(accept)}\n-D {spec(accept)}\nCOMMIT\n*raw\n-I {spec(raw)}\n"
        f"-I {spec(other)}\n-D {spec(raw)}\n-D {spec(other)}\nCOMMIT\n"
    )


@pytest.mark.parametrize("failures", [0, 2, 3])
def test_the_kernel_is_tried_with_rules_that_never_apply(
    monkeypatch: pytest.MonkeyPatch, programs: Programs, failures: int
) -> None:
    attempts = Attempts(failures)
    monkeypatch.setattr(nft, "_restore", attempts.restore)
    for name in ("iptables-nft-save", "iptables-nft-restore", "ip6tables-nft-save"):
        programs.found[name] = name
    marked: dict[Family, list[FilterRule]] = {}
    musts: list[bool] = []

    def read(family: Family, adopted: object = (), must: bool = False) -> list[FilterRule]:
        musts.append(must)
        return marked.get(family, [])

    monkeypatch.setattr(nft, "_marked", read)
    tables = NftTables()
    if failures == 3:
        with pytest.raises(HostError) as caught:
            tables.check([4])
        assert str(caught.value) == (
            "the nft tables raw and filter do not accept IPv4 rules: busy; repair them, or set:"
            " iptables legacy, or iptables off"
        )
        assert len(attempts.texts) == 3
        return
    tables.check([4])
    tables.check([4])  # the next server block
    samples = rules_for(UntrackedEndpoint("dns", "192.0.2.1", 53))
    assert attempts.texts == [(4, nft._there_and_back(samples))] * (failures + 1)
    marked[4] = [*RULES]
    NftTables().check([4])  # there are rules already
    assert len(attempts.texts) == failures + 1
    assert musts == [True] * 3
    with pytest.raises(HostError, match="no ip6tables-nft-restore found: install the package"):
        tables.check([6])


def test_tables_that_cannot_be_read(monkeypatch: pytest.MonkeyPatch) -> None:
    saved = {"filter": f"-A {spec(RULES[3])}\n", "raw": None}
    monkeypatch.setattr(nft, "save", lambda family, table: saved[table])
    assert nft._marked(4) == [RULES[3]]
    with pytest.raises(HostError, match="iptables-nft-save cannot read the table raw"):
        nft._marked(4, must=True)


# -- notifications


class Socket:
    """A socket whose reads end as the test says; without more, nothing is left to read."""

    def __init__(self, *ends: Exception | None) -> None:
        self.ends = [*ends]
        self.reads = 0

    def recv(self, size: int) -> bytes:
        assert size == 1
        self.reads += 1
        end = self.ends.pop(0) if self.ends else BlockingIOError()
        if end is not None:
            raise end
        return b"x"


@pytest.mark.parametrize(
    ("ends", "reads"),
    [
        ([], 1),
        ([None], 2),
        ([OSError(105, "No buffer space available"), None], 3),
        ([None] * 62, 63),
        ([None] * 200, 64),
    ],
)
def test_how_many_notifications_are_read_at_a_time(
    ends: list[Exception | None], reads: int
) -> None:
    changes: list[int] = []
    sock: Any = Socket(*ends)
    made = watch.Watch.__new__(watch.Watch)
    made._changed = lambda: changes.append(1)
    made._drain(sock)
    assert (sock.reads, changes) == (reads, [1])


# -- the plan of a Corefile


class Rules:
    """The rules of one kind of iptables."""

    def __init__(self, name: str, *rules: FilterRule) -> None:
        self.name, self.rules = name, [*rules]

    def read(self, adopted: Collection[FilterRule] = frozenset()) -> list[FilterRule]:
        return [rule for rule in self.rules if rule.comment or rule in adopted]

    def reconcile(
        self, wanted: set[FilterRule], removable: Callable[[FilterRule], bool]
    ) -> tuple[int, int]:
        assert wanted == set()
        return 0, sum(map(removable, self.rules))


class Links:
    def __init__(self, now: Snapshot) -> None:
        self.now = now

    def read(self) -> Snapshot:
        return self.now

    def remove_all(self) -> list[str]:
        return ["removed x"]


@pytest.fixture
def others(monkeypatch: pytest.MonkeyPatch) -> list[DesiredState]:
    """What other processes claim."""
    found = [DesiredState()]
    monkeypatch.setattr(survey, "Claims", lambda: SimpleNamespace(others=lambda: found[0]))
    return found


def test_the_changes_of_a_start(
    monkeypatch: pytest.MonkeyPatch, others: list[DesiredState]
) -> None:
    tables = Rules("nft", RULES[0], OTHERS[0], OTHERS[1])
    monkeypatch.setattr(survey, "choose", lambda mode: tables)
    links: Any = Links(
        Snapshot(
            {"old": Link(1, "old", "dummy", True, True)},
            (
                Placed("old", "10.0.0.7", True),
                Placed("old", "10.0.0.8", True),
                Placed("eth0", "10.0.0.9", False),
            ),
        )
    )
    addresses = {Address("new", A), Address("old", "10.0.0.3"), Address("new", "10.0.0.9")}
    want = DesiredState(frozenset(addresses), frozenset({UntrackedEndpoint("dns", A, 53)}))
    others[0] = DesiredState(
        frozenset({Address("old", "10.0.0.8")}), frozenset({UntrackedEndpoint("dns", B, 54)})
    )
    rules = [("add", f"rule nft IPv4 {it.table} {spec(it)}") for it in sorted(RULES[1:])]
    stale = [("remove", f"rule nft IPv4 {it.table} {spec(it)}") for it in sorted(OTHERS[:2])]
    begin = [
        ("add", "interface new"),
        ("add", f"address {A} on new"),
        ("add", "address 10.0.0.3 on old"),
    ]
    end = [("remove", "address 10.0.0.7 on old")]
    assert survey.steps(Plan(want, "nft", ()), links) == [*begin, *rules, *stale, *end]
    assert survey.steps(Plan(want, "off", ()), links) == [*begin, *end]
    others[0] = DesiredState(endpoints=frozenset({UntrackedEndpoint("dns", B, 53)}))
    both = [("remove", f"address 10.0.0.{it} on old") for it in (7, 8)]
    assert survey.steps(Plan(want, "nft", ()), links) == [*begin, *rules, *both]


def test_the_rules_and_claims_of_a_status(
    monkeypatch: pytest.MonkeyPatch, others: list[DesiredState]
) -> None:
    kinds = (Rules("legacy", *SIX), Rules("nft", *RULES, RULES[0]))
    monkeypatch.setattr(survey, "all_tables", lambda: kinds)
    monkeypatch.setattr(survey, "choose", lambda mode: kinds[0])
    links: Any = Links(Snapshot({}, ()))
    assert survey.findings(links) == [
        ("rules", "legacy", "fd00::10 port 8080", "2"),
        ("rules", "nft", f"{A} port 53", "10, 1 repeated"),
    ]
    others[0] = DesiredState(
        frozenset({Address("x", B), Address("x", A)}),
        frozenset({UntrackedEndpoint("dns", A, 53), UntrackedEndpoint("health", A, 80)}),
    )
    want = DesiredState(endpoints=frozenset({UntrackedEndpoint("dns", B, 53)}))
    claims = [
        ("claim", "x", A, "wanted"),
        ("claim", "x", B, "wanted"),
        ("claim", "dns", f"{A} port 53", "wanted"),
        ("claim", "health", f"{A} port 80", "wanted"),
    ]
    nft_rules = ("rules", "nft", f"{A} port 53", "10, 1 repeated, 10 not wanted")
    legacy = ("rules", "legacy", "fd00::10 port 8080", "2, 2 not wanted")
    assert survey.findings(links, Plan(want, "legacy", ())) == [
        ("rules", "legacy", f"{B} port 53", "0, 10 missing"), legacy, nft_rules, *claims
    ]  # fmt: skip
    assert survey.findings(links, Plan(want, "off", ())) == [legacy, nft_rules, *claims]


def test_a_teardown_removes_all_rules(monkeypatch: pytest.MonkeyPatch) -> None:
    links: Any = Links(Snapshot({}, ()))
    kinds = (Rules("legacy"), Rules("nft", *RULES))
    monkeypatch.setattr(survey, "all_tables", lambda: kinds)
    assert survey.remove_everything(links) == ["removed 10 rules from nft iptables", "removed x"]


# -- the directive and its values


def test_the_defaults_of_the_settings() -> None:
    assert Settings() == Settings(
        ips=("192.168.10.100",),
        ports=(53,),
        health=(),
        interface="nodecache",
        iptables="auto",
        interval=60.0,
        device=True,
        skip_teardown=False,
    )
    controller = controller_for("nodecache", hosts=(A,))
    assert parse(controller) == Settings(ips=(A,))


@pytest.mark.parametrize(
    ("option", "changes"),
    [
        ("interface fifteen-letters", {"interface": "fifteen-letters"}),
        ("interface x", {"interface": "x"}),
        ("interval 1s", {"interval": 1.0}),
        ("interval 1001ms", {"interval": 1.001}),
    ],
)
def test_values_at_the_edge_are_accepted(option: str, changes: dict[str, Any]) -> None:
    controller = controller_for(f"nodecache {{\n{option}\n}}", hosts=(A,))
    assert parse(controller) == Settings(ips=(A,))._replace(**changes)


@pytest.mark.parametrize(
    "option", ["interface .", "interface ..", "interface a:b", "interval 999ms"]
)
def test_values_beside_the_edge_are_refused(option: str) -> None:
    controller = controller_for(f"nodecache {{\n{option}\n}}", hosts=(A,))
    with pytest.raises(CorefileError) as caught:
        parse(controller)
    (found,) = caught.value.diagnostics
    assert found.token is not None
    assert found.token.text == option.split()[1]


def test_a_rule_in_the_notation_of_ip6tables() -> None:
    mark = '-m comment --comment "corepy nodecache" -j NOTRACK'
    assert [spec(it) for it in SIX] == [
        f"OUTPUT -d fd00::10/128 -p tcp -m tcp --dport 8080 {mark}",
        f"OUTPUT -s fd00::10/128 -p tcp -m tcp --sport 8080 {mark}",
    ]
