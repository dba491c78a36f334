"""The states of a zone's keys (RFC 5011 section 4): pure functions, without clock and files."""

from __future__ import annotations

from enum import StrEnum
from typing import TYPE_CHECKING, Final, NamedTuple

from corepy_forward.validation.anchor import (
    REVOKE_FLAG,
    SEP_FLAG,
    ZONE_FLAG,
    flags_of,
    without_revocation,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from corepy_forward.validation.anchor import SeenKeys

DAY: Final = 86400
ADD_HOLD_DOWN: Final = 30 * DAY
"""Seconds for which a new key is not trusted (RFC 5011 section 2.4.1)."""

REMOVE_HOLD_DOWN: Final = 30 * DAY
"""Seconds from the revocation of a key to its removal (RFC 5011 section 2.4.2)."""

MOST_KEYS: Final = 32
"""Maximum number of keys whose state is known in one zone; the root has had five since 2010."""

_PROTOCOL: Final = 3


class State(StrEnum):
    """The states of RFC 5011 section 4.2, except Start: a key in that state is not known."""

    PENDING = "pending"
    """AddPend: new, but not yet trusted."""

    VALID = "valid"
    MISSING = "missing"
    """Trusted, but not in the last DNSKEY set."""

    REVOKED = "revoked"
    REMOVED = "removed"


TRUSTED: Final = frozenset((State.VALID, State.MISSING))
GONE: Final = frozenset((State.REVOKED, State.REMOVED))


class TrackedKey(NamedTuple):
    """What is known of one key; times are in seconds since 1970."""

    state: State
    since: int
    until: int = 0
    """The end of the hold-down time of a key that is pending or revoked, otherwise 0."""


class KeyChange(NamedTuple):
    """A change of a key's state; None is the state Start of RFC 5011."""

    key: bytes
    """The rdata of the DNSKEY record without the flag REVOKE."""

    before: State | None
    after: State | None


Keys = dict[bytes, TrackedKey]
"""Known keys, by the rdata of the DNSKEY record without the flag REVOKE."""


def advance(
    keys: Mapping[bytes, TrackedKey],
    seen: SeenKeys,
    is_configured: Callable[[bytes], bool],
    now: int,
) -> Keys:
    """Return the states after a DNSKEY set was received.

    `is_configured` is whether a key is that of a configured anchor, which is trusted at once. Only
    revocations need no signature by a trusted key.
    """
    after = dict(keys)
    _revoke(after, seen, is_configured, now)
    if is_signed(after, seen, is_configured):
        _compare(after, seen, is_configured, now)
    return expire(after, now)


def is_signed(
    keys: Mapping[bytes, TrackedKey], seen: SeenKeys, is_configured: Callable[[bytes], bool]
) -> bool:
    """Return whether a trusted key has signed a DNSKEY set."""
    return any(_is_trusted(keys, key, is_configured) for key in seen.signers)


def shift(keys: Mapping[bytes, TrackedKey], before: int, seconds: int) -> Keys:
    """Return the states after the clock was set from `before` by `seconds`.

    The hold-down times of pending keys move along, so that they do not end early. A time after
    `before` was recorded while the clock was right, and stays.
    """
    return {
        key: TrackedKey(it.state, it.since + seconds, it.until + seconds)
        if it.state is State.PENDING and it.since <= before
        else it
        for key, it in keys.items()
    }


def expire(keys: Mapping[bytes, TrackedKey], now: int) -> Keys:
    """Return the states in which revoked keys are removed after their hold-down time (RemTime)."""
    return {
        key: TrackedKey(State.REMOVED, now) if it.state is State.REVOKED and now >= it.until else it
        for key, it in keys.items()
    }


def changes(
    before: Mapping[bytes, TrackedKey], after: Mapping[bytes, TrackedKey]
) -> list[KeyChange]:
    """Return the differences in states."""
    states = {key: (_state(before, key), _state(after, key)) for key in (*before, *after)}
    return [KeyChange(key, old, new) for key, (old, new) in states.items() if old is not new]


def _state(keys: Mapping[bytes, TrackedKey], key: bytes) -> State | None:
    return keys[key].state if key in keys else None


def _is_trusted(
    keys: Mapping[bytes, TrackedKey], key: bytes, is_configured: Callable[[bytes], bool]
) -> bool:
    if flags_of(key) & REVOKE_FLAG:
        return False
    state = _state(keys, key)
    return state in TRUSTED or (state not in GONE and is_configured(key))


def _revoke(keys: Keys, seen: SeenKeys, is_configured: Callable[[bytes], bool], now: int) -> None:
    """Enter the keys that have signed their own revocation (RevBit)."""
    for revoked in seen.signers:
        key = without_revocation(revoked)
        if key == revoked or _state(keys, key) in GONE:
            continue
        if _is_trusted(keys, key, is_configured):
            keys[key] = TrackedKey(State.REVOKED, now, now + REMOVE_HOLD_DOWN)
        else:
            keys.pop(key, None)


def _compare(keys: Keys, seen: SeenKeys, is_configured: Callable[[bytes], bool], now: int) -> None:
    """Enter new and missing keys, and the end of hold-down times, from a validated set."""
    present = frozenset(key for key in seen.keys if _can_be_anchor(key))
    for key in [key for key in keys if key not in present]:
        _miss(keys, key, now)
    for key in sorted(present):
        if key in keys:
            _meet(keys, key, is_configured(key), now)
        elif is_configured(key):
            keys[key] = TrackedKey(State.VALID, now)
        elif _has_room(keys, is_configured):
            keys[key] = TrackedKey(State.PENDING, now, now + max(ADD_HOLD_DOWN, seen.ttl))


def _has_room(keys: Keys, is_configured: Callable[[bytes], bool]) -> bool:
    """Whether another key can be added, for which the oldest key out of use is forgotten."""
    if len(keys) < MOST_KEYS:
        return True
    unused = [
        (it.since, key)
        for key, it in keys.items()
        if it.state in (State.MISSING, State.REMOVED) and not is_configured(key)
    ]
    if unused:
        del keys[min(unused)[1]]
    return bool(unused)


def _can_be_anchor(key: bytes) -> bool:
    """Whether a key is a key-signing key of a zone that is not revoked."""
    wanted = ZONE_FLAG | SEP_FLAG
    return flags_of(key) & (wanted | REVOKE_FLAG) == wanted and key[2] == _PROTOCOL


def _miss(keys: Keys, key: bytes, now: int) -> None:
    """Enter that a known key is not in the set (KeyRem)."""
    state = keys[key].state
    if state is State.PENDING:
        del keys[key]
    elif state is State.VALID:
        keys[key] = TrackedKey(State.MISSING, now)


def _meet(keys: Keys, key: bytes, is_configured: bool, now: int) -> None:
    """Enter that a known key is in the set (KeyPres, AddTime)."""
    known = keys[key]
    if known.state is State.PENDING and now < known.since:  # the clock was wrong then, or is now
        keys[key] = TrackedKey(State.PENDING, now, now + known.until - known.since)
        return
    is_old = known.state is State.PENDING and (is_configured or now >= known.until)
    if is_old or known.state is State.MISSING:
        keys[key] = TrackedKey(State.VALID, now)
