"""Making the host what is wanted, in one blocking call: the part that touches the kernel.

Order is everything here. What is wanted appears addresses first, then rules; what is no longer
wanted goes rules first, then addresses, then the link; and all that is new stands before anything
old goes. A failure in one part does not keep the others from being done. Runs in one thread; knows
nothing of asyncio.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from corepy_nodecache.claims import Claims, node_lock
from corepy_nodecache.link import Links
from corepy_nodecache.model import HostError, Rule, Want

if TYPE_CHECKING:
    from collections.abc import Callable

    from corepy_nodecache.tables import RuleTables


class Report(NamedTuple):
    """What one pass over the host did and found."""

    done: list[str]
    """Changes, in words."""
    added: bool
    """Whether something wanted was missing."""
    errors: list[HostError]
    rules: int
    """Wanted rules that are there after the pass."""
    addresses: int
    """Wanted addresses that are there after the pass."""
    repaired: bool = False
    """Whether something was missing that an earlier pass had put there."""

    @classmethod
    def nothing(cls, want: Want) -> Report:
        """Return the report of a host that is as wanted."""
        return cls([], False, [], len(want.rules()), len(want.addresses))


class Host:
    """The network namespace of this process, as far as corepy cares for it."""

    def __init__(self) -> None:
        self.tables: RuleTables | None = None
        """Where rules go; None leaves rules alone."""
        self._links = Links()
        self._claims = Claims()
        self._known: Want = Want()

    def sync(self, want: Want, sweep: bool = False) -> Report:
        """Make the host what `want` says; never raises for what the host does.

        Removed is what an earlier call wanted; with `sweep` also what an earlier process left
        behind. What another living process claims stays.
        """
        try:
            return self._sync(want, sweep)
        except OSError as error:  # no more descriptors, say
            return Report([], False, [HostError("interface_check", str(error))], 0, 0)

    def _sync(self, want: Want, sweep: bool) -> Report:
        with node_lock():
            known = Want(
                self._known.addresses | want.addresses, self._known.endpoints | want.endpoints
            )
            self._known = known
            self._claims.hold(known)  # a claim stands as long as something may be there
            report = self._apply(want, sweep)
            if not report.errors:
                self._known = want
                self._claims.hold(want)
            return report

    def close(self) -> None:
        """Give up the claims; what is on the host stays."""
        self._claims.close()

    def _apply(self, want: Want, sweep: bool) -> Report:
        others = self._claims.others()
        done: list[str] = []
        errors: list[HostError] = []
        added = self._try(errors, lambda: self._add_addresses(want, done))
        added |= self._try(errors, lambda: self._set_rules(want, others, sweep, done))
        self._try(errors, lambda: self._drop_addresses(want, others, sweep, done))
        return Report(done, added, errors, *self._present(want, errors))

    @staticmethod
    def _try(errors: list[HostError], step: Callable[[], bool]) -> bool:
        try:
            return step()
        except HostError as error:
            errors.append(error)
            return False

    def _add_addresses(self, want: Want, done: list[str]) -> bool:
        changes = self._links.ensure(want.addresses) if want.addresses else []
        done += changes
        return bool(changes)

    def _set_rules(self, want: Want, others: Want, sweep: bool, done: list[str]) -> bool:
        if self.tables is None:
            return False
        known, foreign = self._known.rules(), others.rules()

        def removable(rule: Rule) -> bool:
            return rule not in foreign and (sweep or rule in known)

        added, removed = self.tables.reconcile(want.rules(), removable)
        done += [f"added {added} rules"] if added else []
        done += [f"removed {removed} rules"] if removed else []
        return bool(added)

    def _drop_addresses(self, want: Want, others: Want, sweep: bool, done: list[str]) -> bool:
        unwanted = self._known.addresses - want.addresses
        if sweep:
            unwanted |= set(self._links.read().ours()) - want.addresses
        done += self._links.remove(unwanted - others.addresses) if unwanted else []
        return False

    def _present(self, want: Want, errors: list[HostError]) -> tuple[int, int]:
        """Count what stands; nothing is read again when nothing went wrong."""
        rules = want.rules() if self.tables else set()
        if not errors:
            return len(rules), len(want.addresses)
        try:
            actual = set(self.tables.read()) if self.tables else set()
            placed = {address.ip for address in self._links.read().addresses}
        except HostError:
            return 0, 0
        return len(rules & actual), sum(address.ip in placed for address in want.addresses)
