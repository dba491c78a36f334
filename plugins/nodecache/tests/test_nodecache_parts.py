"""Parts of nodecache by themselves, without a host: the order of a pass, the commands, names."""

from __future__ import annotations

import contextlib
import json
import re
from typing import TYPE_CHECKING, Any

import pytest

from corepy_nodecache import cli, host, survey
from corepy_nodecache.claims import Claims
from corepy_nodecache.host import Host, Report
from corepy_nodecache.link import Link, Placed, Snapshot
from corepy_nodecache.model import (
    Address,
    DesiredState,
    FilterRule,
    HostError,
    UntrackedEndpoint,
    rules_for,
)
from corepy_nodecache.survey import Finding, Step

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Iterator
    from pathlib import Path

    from corepy_nodecache.blocks import Plan
    from corepy_nodecache.model import Family


def state(*ips: str) -> DesiredState:
    return DesiredState(
        frozenset(Address("nodecache", ip) for ip in ips),
        frozenset(UntrackedEndpoint("dns", ip, 53) for ip in ips),
    )


A, B, C = "10.0.0.1", "10.0.0.2", "10.0.0.3"


class Node:
    """The links, rules and claims of a host that notes the calls of a pass."""

    name = "noting"

    def __init__(self) -> None:
        self.calls: list[tuple[str, object]] = []
        self.others_state = DesiredState()
        self.placed: list[Placed] = []
        self.rules: list[FilterRule] = []
        self.counts = (0, 0)
        self.changes: list[str] = []
        self.errors: dict[str, Exception] = {}
        self.removable: Callable[[FilterRule], bool] = lambda _: False
        self.adopted: Collection[FilterRule] = set()
        self.shared: Collection[FilterRule] = set()

    def _note(self, method: str, given: object = None) -> None:
        self.calls.append((method, given))
        if method in self.errors:
            raise self.errors[method]

    def called(self) -> list[tuple[str, object]]:
        found, self.calls = self.calls, []
        return found

    def hold(self, want: DesiredState) -> None:
        self._note("hold", want)

    def others(self) -> DesiredState:
        self._note("others")
        return self.others_state

    def close(self) -> None:
        self._note("close")

    def ensure(self, wanted: frozenset[Address], adopted: frozenset[str]) -> list[str]:
        self._note("ensure", (wanted, adopted) if adopted else wanted)
        return self.changes

    def remove(self, addresses: set[Address], whole: frozenset[str]) -> list[str]:
        self._note("remove", (addresses, whole) if whole else addresses)
        return ["removed some"]

    def reconcile(
        self,
        wanted: set[FilterRule],
        removable: Callable[[FilterRule], bool],
        adopted: Collection[FilterRule] = frozenset(),
        shared: Collection[FilterRule] = frozenset(),
    ) -> tuple[int, int]:
        self.adopted, self.shared = adopted, shared
        self.removable = removable
        self._note("reconcile", wanted)
        return self.counts

    def read(self, adopted: Collection[FilterRule] = frozenset()) -> Any:
        self._note("read")
        return Snapshot({}, tuple(self.placed))

    def check(self, families: Iterable[Family]) -> None:
        """Accept every family."""


class Tables(Node):
    """The rules of a `Node`; its calls are those of the node."""

    def __init__(self, node: Node) -> None:
        super().__init__()
        self.calls = node.calls

    def read(self, adopted: Collection[FilterRule] = frozenset()) -> Any:
        self._note("read rules")
        return self.rules


@pytest.fixture
def node() -> Node:
    return Node()


@pytest.fixture
def made(node: Node, monkeypatch: pytest.MonkeyPatch) -> Host:
    @contextlib.contextmanager
    def lock() -> Iterator[bool]:
        node._note("lock")
        yield True
        node._note("unlock")

    monkeypatch.setattr(host, "node_lock", lock)
    made = Host()
    monkeypatch.setattr(made, "_links", node)
    monkeypatch.setattr(made, "_claims", node)
    made.tables = node
    return made


def test_a_pass_adds_before_it_removes(made: Host, node: Node) -> None:
    first, second = state(A), state(B)
    node.counts, node.changes = (10, 0), ["added one"]
    assert made.sync(first) == Report(["added one", "added 10 rules"], True, [], 10, 1)
    begun = [("lock", None), ("hold", first), ("others", None)]
    assert node.called() == [
        *begun,
        ("ensure", first.addresses),
        ("reconcile", first.rules()),
        ("hold", first),
        ("unlock", None),
    ]
    node.counts, node.changes = (0, 5), []
    node.others_state = state(C)
    assert made.sync(second) == Report(["removed 5 rules", "removed some"], False, [], 10, 1)
    both = state(A, B)
    assert node.called() == [
        ("lock", None),
        ("hold", both),  # as long as they may be on the host
        ("others", None),
        ("ensure", second.addresses),
        ("reconcile", second.rules()),
        ("remove", first.addresses),
        ("hold", second),
        ("unlock", None),
    ]
    for ip, is_removable in ((A, True), (C, False), ("10.0.0.4", False)):
        rule = rules_for(UntrackedEndpoint("dns", ip, 53))[0]
        assert node.removable(rule) is is_removable
    node.counts = (0, 0)
    assert made.sync(second) == Report.nothing(second) == ([], False, [], 10, 1, False)


def test_a_sweep_removes_what_an_earlier_process_has_left(made: Host, node: Node) -> None:
    node.placed = [
        Placed("nodecache", A, True),
        Placed("nodecache", B, True),
        Placed("nodecache", C, True),
        Placed("eth0", "10.0.0.4", False),
    ]
    node.others_state = state(C)
    report = made.sync(state(A), sweep=True)
    assert report == Report(["removed some"], False, [], 10, 1)
    assert node.called()[-4:-2] == [("read", None), ("remove", state(B).addresses)]
    for ip, is_removable in ((B, True), (C, False)):
        assert node.removable(rules_for(UntrackedEndpoint("dns", ip, 53))[0]) is is_removable
    # Rules of node-cache: only those for an address that corepy has added and nobody wants.
    for ip, is_removable in ((A, False), (B, True), (C, False), ("10.0.0.4", False)):
        shared = UntrackedEndpoint("dns", ip, 53, "node-cache")
        assert node.removable(rules_for(shared)[0]) is is_removable


def test_a_pass_that_adopts(made: Host, node: Node) -> None:
    shared = UntrackedEndpoint("dns", A, 53, "node-cache")
    addresses = frozenset({Address("nodelocaldns", A)})
    want = DesiredState(addresses, frozenset({shared}), frozenset({"nodelocaldns"}))
    made.sync(want)
    assert ("ensure", (want.addresses, want.adopted)) in node.called()
    assert node.adopted == {rule.bare for rule in rules_for(shared)}
    for rule in (*rules_for(shared), *rules_for(shared._replace(style="corepy"))):
        assert node.removable(rule)
        assert node.removable(rule.bare)
        assert not node.removable(rule._replace(destination_port=54, source_port=0))
    node.others_state = state(A)
    made.sync(want)
    assert not any(node.removable(rule) for rule in state(A).rules())
    node.called()
    node.others_state = DesiredState()
    made.sync(DesiredState())
    assert ("remove", (want.addresses, want.adopted)) in node.called()


def test_what_a_failed_pass_may_have_left_is_removed_by_a_later_one(made: Host, node: Node) -> None:
    error = HostError("iptables", "no")
    node.errors = {"reconcile": error}
    node.changes = ["added one"]
    node.placed = [Placed("eth0", A, False)]
    made.tables = Tables(node)
    made.tables.errors = node.errors
    made.tables.rules = [*rules_for(UntrackedEndpoint("dns", A, 53))[:3]]
    assert made.sync(state(A, B)) == Report(["added one"], True, [error], 3, 1)
    assert [call for call, _ in node.called()] == [
        *("lock", "hold", "others", "ensure", "reconcile", "read rules", "read", "unlock")
    ]
    node.errors.clear()
    node.changes = []
    report = made.sync(DesiredState())
    assert report == Report(["removed some"], False, [], 0, 0)
    calls = node.called()
    assert calls[1] == ("hold", state(A, B))
    assert calls[-3:] == [
        ("remove", state(A, B).addresses), ("hold", DesiredState()), ("unlock", None)
    ]  # fmt: skip


def test_a_host_that_cannot_be_read_has_nothing_in_place(made: Host, node: Node) -> None:
    errors = [HostError("interface_add", "1"), HostError("iptables", "2")]
    node.errors = {"ensure": errors[0], "reconcile": errors[1], "read": errors[0]}
    assert made.sync(state(A)) == Report([], False, errors, 0, 0)


def test_without_rules_only_addresses_count(made: Host, node: Node) -> None:
    made.tables = None
    assert made.sync(state(A)) == Report([], False, [], 0, 1)
    assert "reconcile" not in dict(node.called())
    assert made.sync(DesiredState(endpoints=state(A).endpoints)) == Report(
        ["removed some"], False, [], 0, 0
    )
    assert "ensure" not in dict(node.called())


def test_a_process_without_descriptors(made: Host, node: Node) -> None:
    node.errors = {"hold": OSError(24, "Too many open files")}
    report = made.sync(state(A))
    assert (report.done, report.added, report.rules, report.addresses) == ([], False, 0, 0)
    assert [(it.kind, str(it)) for it in report.errors] == [
        ("interface_check", "[Errno 24] Too many open files")
    ]
    node.errors.clear()
    node.called()
    made.close()
    assert node.called() == [("close", None)]


def test_a_process_is_known_by_eight_digits() -> None:
    tokens = {Claims()._token for _ in range(8)}
    assert len(tokens) > 1
    assert all(re.fullmatch("[0-9a-f]{8}", it) for it in tokens)


# -- the commands


def test_the_defaults_of_the_commands() -> None:
    for command, conf in (("status", None), ("plan", "Corefile")):
        options = cli._parser().read([command])
        assert (options.conf, options.port, options.json) == (conf, 53, False)
        assert cli._parser().read([command, "-p", "54"]).port == 54
    teardown = cli._parser().read(["teardown"])
    assert (teardown.force, teardown.json) == (False, False)


def test_tables_and_json(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = [Finding("link", "x", "dummy", "up"), Finding("address", "x", A, "corepy's")]
    monkeypatch.setattr(survey, "findings", lambda links, plan: rows)
    assert cli.main(["status"]) == 0
    assert capsys.readouterr().out == (
        "KIND     WHERE  WHAT      STATE\n"
        "link     x      dummy     up\n"
        f"address  x      {A}  corepy's\n"
    )
    assert cli.main(["status", "-json"]) == 0
    out = capsys.readouterr().out
    keys = ("kind", "where", "what", "state")
    assert json.loads(out) == [dict(zip(keys, row, strict=True)) for row in rows]
    assert out.splitlines()[:3] == ["[", "  {", '    "kind": "link",']


def test_a_command_that_fails(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fail(*_: object) -> None:
        raise HostError("iptables", "cannot read the rules")

    monkeypatch.setattr(survey, "findings", fail)
    assert cli.main(["status"]) == 1
    assert capsys.readouterr() == ("", "corepy nodecache: cannot read the rules\n")


def test_warnings_about_a_corefile(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    found: list[Plan] = []

    def steps(plan: Plan, links: object) -> list[Step]:
        found.append(plan)
        return []

    (path := tmp_path / "Corefile").write_text(". {\n nodecache {\n iptables off\n }\n whoami\n}\n")
    monkeypatch.setattr(survey, "steps", steps)
    assert cli.main(["plan", "-conf", str(path), "-p", "54"]) == 0
    out, errors = capsys.readouterr()
    assert out == "Nothing to change.\n"
    assert errors.count("warning: no bind in this server block: using 192.168.10.100") == 1
    (plan,) = found
    assert (plan.mode, plan.want.endpoints) == ("off", frozenset())
    assert plan.want.addresses == {Address("nodecache", "192.168.10.100")}


def test_the_links_of_a_status() -> None:
    links = {
        it.name: it
        for it in (
            Link(1, "eth0", "", True, False),
            Link(2, "up", "dummy", True, True),
            Link(3, "down", "bridge", False, True),
        )
    }
    now = Snapshot(
        links,
        (
            Placed("up", A, True),
            Placed("up", "fe80::1", False),
            Placed("down", B, False),
            Placed("eth0", C, True),
            Placed("eth0", "10.0.0.4", False),
        ),
    )
    assert survey._links(now, None) == [
        ("link", "up", "dummy", "up"), ("link", "down", "bridge", "down")
    ]  # fmt: skip
    assert survey._addresses(now, None) == [
        ("address", "up", A, "corepy's"),
        ("address", "down", B, "not corepy's"),
        ("address", "eth0", C, "corepy's"),
        ("address", "eth0", "10.0.0.4", "not corepy's"),
    ]
    want = DesiredState(
        frozenset({Address("up", A), Address("new", "10.0.0.9"), Address("other", C)})
    )
    assert survey._links(now, want)[2:] == [
        ("link", "new", "dummy", "missing"), ("link", "other", "dummy", "missing")
    ]  # fmt: skip
    assert survey._addresses(now, want) == [
        ("address", "up", A, "corepy's"),
        ("address", "down", B, "not corepy's"),
        ("address", "eth0", C, "corepy's, not wanted"),
        ("address", "eth0", "10.0.0.4", "not corepy's"),
        ("address", "new", "10.0.0.9", "missing"),
    ]


@pytest.mark.parametrize(
    ("actual", "wanted", "text"),
    [
        ([0, 1], None, "2"),
        ([0, 1, 1], None, "2, 1 repeated"),
        ([], [0], "0, 1 missing"),
        ([0, 1], [0, 1], "2"),
        ([0, 1, 1, 1], [0, 2, 3], "2, 2 repeated, 2 missing, 1 not wanted"),
    ],
)
def test_how_rules_are_counted(actual: list[int], wanted: list[int] | None, text: str) -> None:
    rules = rules_for(UntrackedEndpoint("dns", A, 53))
    given = None if wanted is None else {rules[it] for it in wanted}
    assert survey._count([rules[it] for it in actual], given) == text
