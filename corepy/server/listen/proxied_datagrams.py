"""Removes the PROXY headers of datagrams, and keeps the sessions of proxies that send them alone.

Each datagram begins with a header of version 2. A proxy may instead send one header before the
datagrams of a client: with `ProxyPolicy.session_seconds`, the datagrams without header that follow
from the same address and port belong to the same client (Cloudflare Spectrum).
"""

from __future__ import annotations

from collections import OrderedDict
from typing import TYPE_CHECKING, Final

from corepy.dns.address import address_bytes
from corepy.net.proxy_header import (
    SIGNATURE_1,
    SIGNATURE_2,
    ProxyHeaderError,
    header_length,
    stated_client,
)
from corepy.plugin import ProxyAction, ProxyPolicy
from corepy.server.listen.proxy_refusals import ProxyRefusals

if TYPE_CHECKING:
    from corepy.plugin import ListenerConfig

_PREFIX: Final = len(SIGNATURE_1)
_PREFIXES: Final = (SIGNATURE_1, SIGNATURE_2[:_PREFIX])
"""The beginnings of a header; no query has one, because they contain unknown opcodes."""

_KNOWN_ACTIONS: Final = 4096
"""Senders whose actions are remembered."""

Stripped = tuple[bytes, bytes | None]
"""The payload of a datagram, and the client's address; None if the peer is the client."""


class ProxiedDatagrams:
    """Applies the policy of one socket to its datagrams."""

    def __init__(self, policy: ProxyPolicy, label: str) -> None:
        """`label` is the address of the server in logs and metrics."""
        self.policy = policy
        self._refusals = ProxyRefusals(label)
        self._actions: dict[bytes, ProxyAction] = {}
        self._sessions: OrderedDict[object, tuple[bytes, float]] = OrderedDict()

    @classmethod
    def of(
        cls, config: ListenerConfig, before: ProxiedDatagrams | None, label: str
    ) -> ProxiedDatagrams | None:
        """Return the object for a new configuration; None if no header is read.

        It continues the sessions of the one `before`.
        """
        policy = config.get(ProxyPolicy)
        if not policy.reads_headers:
            return None
        proxied = before or cls(policy, label)
        proxied.follow(policy)
        return proxied

    def follow(self, policy: ProxyPolicy) -> None:
        """Apply another policy, and keep the sessions that it permits."""
        self.policy = policy
        self._actions.clear()
        self._limit_sessions()

    def strip(self, data: bytes, peer: object, now: float) -> Stripped | None:
        """Return the payload and the client of a datagram; None if it is dropped.

        It is dropped, and counted, if the policy or the protocol refuses its header. A header
        without payload is not counted. `peer` is the sender's address, `now` monotonic seconds.
        """
        policy = self.policy
        if data[:_PREFIX] not in _PREFIXES:
            if policy.session_seconds and self._sessions:
                return data, self._client_of(peer, now)
            return data, None
        action = self._action(peer)
        if action is ProxyAction.SKIP:
            return data, None
        try:
            return self._remove(data, peer, now, action)
        except ProxyHeaderError as error:
            self._refusals.add(peer, error)
            return None

    def _action(self, peer: object) -> ProxyAction:
        """Return the action of the policy: searching it for each datagram would cost the most."""
        address = address_bytes(peer)
        action = self._actions.get(address)
        if action is None:
            if len(self._actions) >= _KNOWN_ACTIONS:
                self._actions.clear()
            action = self._actions[address] = self.policy.action(peer)
        return action

    def _remove(
        self, data: bytes, peer: object, now: float, action: ProxyAction
    ) -> Stripped | None:
        """Remove the header; raise `ProxyHeaderError`."""
        if action is ProxyAction.REJECT:
            raise ProxyHeaderError("this peer is not allowed to send one")
        length = header_length(data)
        if length is None or length > len(data):
            raise ProxyHeaderError("it is cut off")
        client = None
        if action is ProxyAction.USE and length:
            client = stated_client(data[:length], is_datagram=True)
            if self.policy.session_seconds:
                self._store(peer, client, now)
        return (data[length:], client) if length < len(data) else None

    def _store(self, peer: object, client: bytes | None, now: float) -> None:
        self._sessions.pop(peer, None)
        if client is not None:
            self._sessions[peer] = client, now + self.policy.session_seconds
            self._limit_sessions()

    def _client_of(self, peer: object, now: float) -> bytes | None:
        """Return the client of the session of `peer`, and extend the session; None without one."""
        client, until = self._sessions.pop(peer, (None, 0.0))
        if client is None or until <= now or self._action(peer) is not ProxyAction.USE:
            return None
        self._sessions[peer] = client, now + self.policy.session_seconds
        return client

    def _limit_sessions(self) -> None:
        """Drop the sessions used least recently beyond the limit of the policy."""
        limit = self.policy.session_limit if self.policy.session_seconds else 0
        while len(self._sessions) > limit:
            self._sessions.popitem(last=False)
