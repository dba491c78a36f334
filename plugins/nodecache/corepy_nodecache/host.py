"""Bring the host into the desired state with one blocking call.

The order of changes matters. A pass first adds addresses, then rules. It then removes unwanted
rules, then addresses, then the link. Everything new is in place before anything old is removed. A
failure in one step does not prevent the others. The code is synchronous and runs in a single
thread.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from corepy_nodecache.claims import Claims, node_lock
from corepy_nodecache.link import Links
from corepy_nodecache.model import MARK, DesiredState, FilterRule, HostError
from corepy_nodecache.settings import union

if TYPE_CHECKING:
    from collections.abc import Callable

    from corepy_nodecache.tables import RuleTables


class Report(NamedTuple):
    """The changes that one pass over the host made, and the state it found."""

    done: list[str]
    """The changes, as text for the log."""
    added: bool
    """Whether a desired address or rule was missing."""
    errors: list[HostError]
    rules: int
    """The number of desired rules that are in place after the pass."""
    addresses: int
    """The number of desired addresses that are in place after the pass."""
    repaired: bool = False
    """Whether an address or rule was missing that an earlier pass had added."""

    @classmethod
    def nothing(cls, want: DesiredState) -> Report:
        """Return the report of a pass that found the desired state."""
        return cls([], False, [], len(want.rules()), len(want.addresses))


class Host:
    """The links, addresses and rules that corepy manages in its network namespace."""

    def __init__(self) -> None:
        self.tables: RuleTables | None = None
        """The iptables back end; None if corepy manages no rules."""
        self.other_tables: RuleTables | None = None
        """The other back end, which only a sweep looks at; earlier processes may have used it."""
        self._links = Links()
        self._claims = Claims()
        self._known: DesiredState = DesiredState()
        self._shared: set[FilterRule] = set()
        """Rules of other corepy processes that are used in place of own ones."""

    def sync(self, want: DesiredState, sweep: bool = False) -> Report:
        """Bring the host into the state `want`; failures are in the report, not raised.

        Removes what an earlier call wanted, and with `sweep` also what an earlier process left
        behind. The claims of other running processes are kept.
        """
        try:
            return self._sync(want, sweep)
        except OSError as error:  # for instance EMFILE
            return Report([], False, [HostError("interface_check", str(error))], 0, 0)

    def _sync(self, want: DesiredState, sweep: bool) -> Report:
        with node_lock():
            known = union([self._known, want])
            self._known = known
            self._claims.hold(known)  # claimed as long as it may be on the host
            others = self._claims.others()
            report = self._apply(want, others, sweep)
            if not report.errors:
                self._known = want
                self._shared &= others.rules()
                self._claims.hold(want)
            return report

    def close(self) -> None:
        """Release the claims; the host does not change."""
        self._claims.close()

    def _apply(self, want: DesiredState, others: DesiredState, sweep: bool) -> Report:
        done: list[str] = []
        errors: list[HostError] = []
        added = self._try(errors, lambda: self._add_addresses(want, done))
        added |= self._try(errors, lambda: self._set_rules(want, others, sweep, done))
        self._try(errors, lambda: self._drop_addresses(want, others, sweep, done))
        return Report(done, added, errors, *self._present(want, errors))

    @staticmethod
    def _try(errors: list[HostError], step: Callable[[], bool | None]) -> bool:
        try:
            return bool(step())
        except HostError as error:
            errors.append(error)
            return False

    def _add_addresses(self, want: DesiredState, done: list[str]) -> bool:
        changes = self._links.ensure(want.addresses, want.adopted) if want.addresses else []
        done += changes
        return bool(changes)

    def _set_rules(
        self, want: DesiredState, others: DesiredState, sweep: bool, done: list[str]
    ) -> bool:
        if self.tables is None:
            return False
        known, adopted, foreign = self._known.rules(), self._known.adopted_rules(), others.rules()
        known_bare, foreign_bare = ({it.bare for it in rules} for rules in (known, foreign))
        stale = self._stale_ips(want, others) if sweep else set[str]()
        shared = {it for it in foreign if it.comment != MARK and it.bare in known_bare}
        self._shared |= shared

        def removable(rule: FilterRule) -> bool:
            if rule in foreign or (rule.comment not in ("", MARK) and rule.bare in foreign_bare):
                return False
            is_left = sweep and (rule.comment == MARK or rule.ip in stale)
            return is_left or rule in known or rule in self._shared or rule.bare in adopted

        added, removed = self.tables.reconcile(want.rules(), removable, adopted, shared)
        done += [f"added {added} rules"] if added else []
        done += [f"removed {removed} rules"] if removed else []
        if sweep and self.other_tables:
            done += _remove_leftovers(self.other_tables, removable, adopted)
        return bool(added)

    def _stale_ips(self, want: DesiredState, others: DesiredState) -> set[str]:
        """Return corepy's addresses that no process wants; an earlier process has left them.

        Only for these, rules with node-cache's comments are known to be of an earlier corepy.
        """
        try:
            ours = set(self._links.read().ours())
        except HostError:
            return set()
        return {it.ip for it in ours - want.addresses - others.addresses}

    def _drop_addresses(
        self, want: DesiredState, others: DesiredState, sweep: bool, done: list[str]
    ) -> None:
        unwanted = self._known.addresses - want.addresses
        if sweep:
            unwanted |= set(self._links.read().ours()) - want.addresses
        in_use = {address.device for address in others.addresses | want.addresses}
        whole = self._known.adopted - want.adopted - in_use
        if unwanted or whole:
            done += self._links.remove(unwanted - others.addresses, whole)

    def _present(self, want: DesiredState, errors: list[HostError]) -> tuple[int, int]:
        """Count the desired rules and addresses in place; reads the host only after an error."""
        rules = {rule.bare for rule in want.rules()} if self.tables else set()
        if not errors:
            return len(rules), len(want.addresses)
        try:
            actual = {rule.bare for rule in self.tables.read()} if self.tables else set()
            placed = {address.ip for address in self._links.read().addresses}
        except HostError:
            return 0, 0
        return len(rules & actual), sum(address.ip in placed for address in want.addresses)


def _remove_leftovers(
    tables: RuleTables, removable: Callable[[FilterRule], bool], adopted: set[FilterRule]
) -> list[str]:
    """Remove rules from the kind of iptables that is not in use; it need not work on this host."""
    try:
        _, removed = tables.reconcile(set(), removable, adopted)
    except HostError as error:
        if error.kind == "iptables_lock":
            raise
        return []
    return [f"removed {removed} rules from {tables.name} iptables"] if removed else []
