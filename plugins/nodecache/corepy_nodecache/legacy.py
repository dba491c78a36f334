"""Rules in the legacy tables (x_tables), through python-iptables' binding of libiptc.

Reading needs no lock, because the kernel returns a consistent table. A change holds the xtables
lock from reading to commit, and each table is committed at once. Entries of the built-in chains
are decoded from their bytes, so a kube-proxy table of thousands of rules costs one scan of memory.
Opening a legacy table creates it in this network namespace. So a table without desired rules is
opened only if it is listed in /proc.

iptc is imported only when needed: never on a node with nftables.
"""

from __future__ import annotations

import contextlib
import ctypes
import time
from typing import TYPE_CHECKING, Final, NamedTuple

from corepy_nodecache.libiptc import load_iptc
from corepy_nodecache.lock import DEFAULT_WAIT, xtables_lock
from corepy_nodecache.model import TABLES, FilterRule, HostError, difference, table_order
from corepy_nodecache.tables import FAMILIES, each_family
from corepy_nodecache.xtentry import decode, encode, named

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Iterator

    from iptc import Entry, Table

    from corepy_nodecache.model import Difference, Family

_BURST: Final = 0.3  # seconds; less than the reconciler's first retry
_NAMES_FILES: Final[dict[Family, str]] = {
    4: "/proc/thread-self/net/ip_tables_names",
    6: "/proc/thread-self/net/ip6_tables_names",
}


def existing_tables(family: Family) -> set[str]:
    """Return the legacy tables that this network namespace has, without creating any."""
    try:
        with open(_NAMES_FILES[family], encoding="ascii") as file:
            return set(file.read().split())
    except OSError:
        return set()


def survey(family: Family, name: str) -> tuple[list[str], int]:
    """Return the chains of an existing table and its number of rules; raises `HostError`."""
    table = _open(family, name)
    try:
        chains = [chain.name for chain in table.chains]
        return chains, sum(1 for chain in chains for _ in _entries(table, chain))
    finally:
        table.close()


class LegacyTables:
    """The raw and filter tables of both families; used by one thread, as libiptc has globals."""

    name = "legacy"

    def __init__(self, lock_wait: float = DEFAULT_WAIT) -> None:
        self._lock_wait = lock_wait
        self._refused = float("-inf")

    def read(self, adopted: Collection[FilterRule] = frozenset()) -> list[FilterRule]:
        """Return the rules of corepy; see `RuleTables`."""
        return [
            rule
            for family in FAMILIES
            for table in TABLES
            for rule in _marked(family, table, adopted)
        ]

    def reconcile(
        self,
        wanted: set[FilterRule],
        removable: Callable[[FilterRule], bool],
        adopted: Collection[FilterRule] = frozenset(),
        shared: Collection[FilterRule] = frozenset(),
    ) -> tuple[int, int]:
        """Make corepy's rules equal to `wanted`, table by table; see `RuleTables`."""
        task = _Task(wanted, removable, adopted, shared)
        return each_family(lambda family: self._family(family, task))

    def _family(self, family: Family, task: _Task) -> tuple[int, int]:
        if not any(_changes(family, task)):
            return (0, 0)
        with self._lock():
            done = [
                _apply(family, name, change, task.adopted)
                for name, change in _changes(family, task)
            ]
        return (sum(len(change.add) for change in done), sum(len(change.remove) for change in done))

    @contextlib.contextmanager
    def _lock(self) -> Iterator[None]:
        """Hold the xtables lock; soon after a timeout it is tried only once, without waiting.

        The server blocks of a Corefile run one after the other: ten of them must not wait ten
        times.
        """
        is_burst = time.monotonic() - self._refused < _BURST
        try:
            with xtables_lock(0 if is_burst else self._lock_wait):
                yield
        except HostError as error:
            if error.kind == "iptables_lock":
                self._refused = time.monotonic()
            raise

    def check(self, families: Iterable[Family]) -> None:
        """Open, and so create, each table that rules of `families` need; raises `HostError`."""
        for family in families:
            for table in TABLES:
                _open(family, table).close()


class _Task(NamedTuple):
    """The arguments of `RuleTables.reconcile`."""

    wanted: set[FilterRule]
    removable: Callable[[FilterRule], bool]
    adopted: Collection[FilterRule]
    shared: Collection[FilterRule]


def _changes(family: Family, task: _Task) -> Iterator[tuple[str, Difference]]:
    for table in table_order(task.wanted):
        mine = {rule for rule in task.wanted if rule.family == family and rule.table == table}
        actual = _marked(family, table, task.adopted, create=bool(mine))
        change = difference(actual, mine, task.removable, task.shared)
        if change.add or change.remove:
            yield table, change


def _open(family: Family, name: str) -> Table:
    iptc = load_iptc()
    try:
        table: Table = (iptc.Table6 if family == 6 else iptc.Table)(name, autocommit=False)
        table.refresh()  # iptc caches the object; its copy of the kernel's table is stale
    except iptc.IPTCError as error:
        hint = f"the kernel needs {_module(family, name)} (modprobe it), or set: iptables nft"
        raise HostError(
            "iptables", f"no legacy table {name} for IPv{family}: {error}; {hint}"
        ) from error
    return table


def _module(family: Family, name: str) -> str:
    return f"{'ip6table' if family == 6 else 'iptable'}_{name}"


def _marked(
    family: Family,
    name: str,
    adopted: Collection[FilterRule] = frozenset(),
    create: bool = False,
) -> list[FilterRule]:
    if not create and name not in existing_tables(family):
        return []
    table = _open(family, name)
    try:
        return [rule for rule, _, _ in _walk(table, family, adopted)]
    finally:
        table.close()


def _walk(
    table: Table, family: Family, adopted: Collection[FilterRule]
) -> Iterator[tuple[FilterRule, bytes, str]]:
    """Yield rule, entry and libiptc's name of the target for each rule of corepy, in order."""
    for chain in ("PREROUTING", "INPUT", "OUTPUT"):
        for entry in _entries(table, chain) if table.is_chain(chain) else ():
            raw = ctypes.string_at(ctypes.addressof(entry), entry.next_offset)
            target = (table.get_target(entry) or b"").decode()
            rule = decode(family, table.name, chain, raw, target)
            if rule and (rule.comment or rule in adopted):
                yield rule, raw, target


def _entries(table: Table, chain: str) -> Iterator[Entry]:
    entry = table.first_rule(chain)
    while entry:
        yield entry
        entry = table.next_rule(entry)


def _apply(
    family: Family, name: str, change: Difference, adopted: Collection[FilterRule]
) -> Difference:
    iptc = load_iptc()
    table = _open(family, name)
    try:
        present = list(_walk(table, family, adopted))
        for rule, raw, target in (present[place] for place in change.remove):
            entry = _buffer(named(raw, family, target))
            table.delete_entry(rule.chain, entry, _buffer(b"\xff" * len(raw)))
        for rule in change.add:
            # At the head, so that no dropping rule precedes ours.
            table.insert_entry(rule.chain, _buffer(encode(rule)), 0)
        table.commit()
    except iptc.IPTCError as error:
        raise HostError("iptables", f"legacy table {name}, IPv{family}: {error}") from error
    finally:
        table.close()
    return change


def _buffer(raw: bytes) -> ctypes.Array[ctypes.c_ubyte]:
    return (ctypes.c_ubyte * len(raw)).from_buffer_copy(raw)
