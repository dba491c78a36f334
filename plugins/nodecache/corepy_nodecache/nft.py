"""Rules on a host with iptables-nft, written through the nft-backed iptables programs.

This is why they are not native nftables rules through pyroute2. An ACCEPT counts only in the chain
that would otherwise drop. A verdict in a table of our own does not keep `ip filter INPUT`, where
kube-proxy, CNI and firewalls have their rules, from dropping later on the same hook. So our rules
must be in the tables of iptables ("managed by iptables-nft, do not touch!"), in the exact
expressions that the node's version of iptables can parse. An unknown form makes the whole table
"incompatible" for every iptables program of the node, and only those programs know the form. One
`iptables-nft-restore --noflush` per family, with one netlink transaction per table, takes 5 ms. It
needs no lock, because the kernel's generation number orders the writers. It runs only when rules
have to change.
"""

from __future__ import annotations

import functools
import os
import shlex
import shutil
import subprocess
from typing import TYPE_CHECKING, Final

from corepy_nodecache.model import (
    COMMENTS,
    TABLES,
    FilterRule,
    HostError,
    UntrackedEndpoint,
    difference,
    rules_for,
    spec,
    table_order,
)
from corepy_nodecache.tables import FAMILIES, each_family

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Sequence

    from corepy_nodecache.model import Family

_STEMS: Final[dict[Family, str]] = {4: "iptables", 6: "ip6tables"}
_TIMEOUT: Final = 10.0  # seconds; a program that hangs must not stop the reconciler forever
_SAMPLES: Final[dict[Family, str]] = {4: "192.0.2.1", 6: "2001:db8::1"}  # for documentation
_ATTEMPTS: Final = 3  # a change by others between reading and writing fails the transaction


@functools.cache
def program(family: Family, task: str) -> str | None:
    """Return the path of the nft-backed `save` or `restore` program, or None if it is missing."""
    stem = _STEMS[family]
    path = os.environ.get("PATH", "") + ":/usr/sbin:/sbin"
    named = shutil.which(f"{stem}-nft-{task}", path=path)
    if named:
        return named
    plain = shutil.which(f"{stem}-{task}", path=path)
    if plain and b"nf_tables" in _run([plain, "--version"]).stdout:
        return plain
    return None


def save(family: Family, table: str) -> str | None:
    """Return the output of `save` for `table`, None if it fails; creates no table."""
    command = program(family, "save")
    if command is None:
        return None
    result = _run([command, "-t", table])
    return result.stdout.decode(errors="replace") if result.returncode == 0 else None


class NftTables:
    """The raw and filter tables of both families, as iptables-nft keeps them."""

    name = "nft"

    def __init__(self) -> None:
        self._tried_out: set[Family] = set()

    def read(self, adopted: Collection[FilterRule] = frozenset()) -> list[FilterRule]:
        """Return the rules of corepy; see `RuleTables`."""
        return [rule for family in FAMILIES for rule in _marked(family, adopted)]

    def reconcile(
        self,
        wanted: set[FilterRule],
        removable: Callable[[FilterRule], bool],
        adopted: Collection[FilterRule] = frozenset(),
        shared: Collection[FilterRule] = frozenset(),
    ) -> tuple[int, int]:
        """Make corepy's rules equal to `wanted`, family by family; see `RuleTables`."""
        return each_family(
            lambda family: _reconcile_family(family, wanted, removable, adopted, shared)
        )

    def check(self, families: Iterable[Family]) -> None:
        """Check that the programs exist and the kernel accepts our rules; raises `HostError`."""
        for family in families:
            for task in ("save", "restore"):
                if program(family, task) is None:
                    message = f"no {_STEMS[family]}-nft-{task} found: install the package iptables"
                    raise HostError("iptables", message)
            # Only the first of ten server blocks has to try.
            if not _marked(family, must=True) and family not in self._tried_out:
                _try_out(family)
                self._tried_out.add(family)


def _reconcile_family(
    family: Family,
    wanted: set[FilterRule],
    removable: Callable[[FilterRule], bool],
    adopted: Collection[FilterRule] = frozenset(),
    shared: Collection[FilterRule] = frozenset(),
) -> tuple[int, int]:
    mine = {rule for rule in wanted if rule.family == family}
    for attempt in range(1, _ATTEMPTS + 1):
        actual = _marked(family, adopted, must=bool(mine))
        change = difference(actual, mine, removable, shared)
        removed = [actual[place] for place in change.remove]
        if not change.add and not removed:
            break
        problem = _restore(family, transaction(change.add, removed))
        if not problem:
            return len(change.add), len(removed)
        if attempt == _ATTEMPTS:
            raise HostError("iptables", problem)
    return (0, 0)


def _try_out(family: Family) -> None:
    """Add sample rules and delete them in the same transaction, so that they never apply.

    Reading the tables proves little: a chain with the right name may be no base chain, and the
    kernel may lack the modules for NOTRACK or the comment. --test of the restore programs does not
    consult the kernel.
    """
    problem = ""
    rules = rules_for(UntrackedEndpoint("dns", _SAMPLES[family], 53))
    for _ in range(_ATTEMPTS):
        problem = _restore(family, _there_and_back(rules))
        if not problem:
            return
    tables = " and ".join(TABLES[::-1])
    message = f"the nft tables {tables} do not accept IPv{family} rules: {problem}"
    raise HostError("iptables", f"{message}; repair them, or set: iptables legacy, or iptables off")


def _there_and_back(rules: Sequence[FilterRule]) -> str:
    lines = []
    for table in TABLES:
        specs = [spec(rule) for rule in rules if rule.table == table]
        edits = [f"{edit} {it}" for edit in ("-I", "-D") for it in specs]
        lines += [f"*{table}", *edits, "COMMIT"]
    return "\n".join([*lines, ""])


def transaction(add: Sequence[FilterRule], remove: Sequence[FilterRule]) -> str:
    """Return input for the `restore` program that adds rules at the head and removes others."""
    lines = []
    for table in table_order(add):
        edits = [f"-D {spec(rule)}" for rule in remove if rule.table == table]
        edits += [f"-I {spec(rule)}" for rule in add if rule.table == table]
        lines += [f"*{table}", *edits, "COMMIT"] if edits else []
    return "\n".join([*lines, ""])


def parse(
    family: Family, table: str, text: str, adopted: Collection[FilterRule] = frozenset()
) -> list[FilterRule]:
    """Return the rules with one of `COMMENTS`, or in `adopted`, in the output of `save`."""
    lines = (line for line in text.splitlines() if line.startswith(_CHAINS))
    found = (line for line in lines if _may_be_ours(line, bool(adopted)))
    rules = (_parse_rule(family, table, shlex.split(line)) for line in found)
    return [rule for rule in rules if rule and (rule.comment or rule in adopted)]


def _may_be_ours(line: str, adopts: bool) -> bool:
    """Whether to parse a line; most lines of a table of kube-proxy are of other programs."""
    if '"' in line:  # the comments have spaces, so they are printed in quotes
        return any(comment in line for comment in COMMENTS)
    return adopts


def _parse_rule(family: Family, table: str, words: list[str]) -> FilterRule | None:
    """Parse one rule; returns None if it has another comment or another structure."""
    words = ["-j CT" if word == "CT" else word for word in words if word != "--notrack"]
    pairs = zip(words[::2], words[1::2], strict=False)
    options = {option: value for option, value in pairs if option != "-m"}
    comment = options.get("--comment", "")
    if (comment and comment not in COMMENTS) or not options.keys() <= _KNOWN_OPTIONS:
        return None
    source, destination = (options.get(it, "").removesuffix(_HOST[family]) for it in ("-s", "-d"))
    first, second = (options.get(option, "0") for option in ("--sport", "--dport"))
    if "/" in source + destination or not (first + second).isdecimal():  # a network, or a range
        return None
    return FilterRule(
        family,
        table,
        options["-A"],
        options.get("-p", ""),
        source,
        destination,
        int(first),
        int(second),
        "NOTRACK" if options.get("-j") == "-j CT" else options.get("-j", ""),
        comment,
    )


_CHAINS: Final = ("-A PREROUTING ", "-A INPUT ", "-A OUTPUT ")
_HOST: Final[dict[Family, str]] = {4: "/32", 6: "/128"}
_KNOWN_OPTIONS: Final = {"-A", "-p", "-s", "-d", "--sport", "--dport", "--comment", "-j"}


def _marked(
    family: Family, adopted: Collection[FilterRule] = frozenset(), must: bool = False
) -> list[FilterRule]:
    """Return the rules of a family; raises `HostError` for an unreadable table if `must`."""
    rules = []
    for table in TABLES:
        text = save(family, table)
        if text is None and must:
            raise HostError("iptables", f"{_STEMS[family]}-nft-save cannot read the table {table}")
        rules += parse(family, table, text or "", adopted)
    return rules


def _restore(family: Family, text: str) -> str:
    """Apply a transaction; returns the error message, empty on success."""
    command = program(family, "restore")
    if command is None:
        return f"no {_STEMS[family]}-nft-restore found: install the package iptables"
    result = _run([command, "--noflush"], text.encode())
    if result.returncode == 0:
        return ""
    error = " ".join(result.stderr.decode(errors="replace").split())
    return f"{os.path.basename(command)}: {error or f'exit code {result.returncode}'}"


def _run(command: list[str], text: bytes = b"") -> subprocess.CompletedProcess[bytes]:
    try:
        return subprocess.run(  # noqa: S603  # fixed programs, no shell; parsed addresses
            command, input=text, capture_output=True, timeout=_TIMEOUT, check=False
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        return subprocess.CompletedProcess(command, 1, b"", str(error).encode())
