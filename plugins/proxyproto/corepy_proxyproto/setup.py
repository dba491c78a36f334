"""Parse the *proxyproto* directive into the block's configuration (CoreDNS: plugin/proxyproto).

The server reads the headers: those of connections in `corepy.server.listen.proxied_streams`, those
of datagrams in `proxied_datagrams`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from corepy.net.networks import read_network
from corepy.plugin import ProxyAction, ProxyPolicy

if TYPE_CHECKING:
    from corepy.net.networks import Network
    from corepy.plugin import Controller, Token

_ACTIONS: Final = {action.value: action for action in ProxyAction}


def setup(controller: Controller) -> None:
    """Store the policy; several occurrences in a block add up."""
    options = _Options(controller)
    for _ in controller.occurrences():
        controller.arguments(0, 0, "write the networks of the proxies as: allow CIDR...")
        controller.options(
            {
                "allow": options.allow,
                "default": options.default,
                "udp_session_tracking": options.udp_session_tracking,
            }
        )
    controller.configure(options.policy)


class _Options:
    """The options of the directive."""

    def __init__(self, controller: Controller) -> None:
        self._controller = controller
        self._networks: list[Network] = []
        self._default: ProxyAction | None = None
        self._seconds = 0.0
        self._limit = ProxyPolicy().session_limit

    @property
    def policy(self) -> ProxyPolicy:
        """The policy that the options describe: without `allow`, headers of all peers are used."""
        usual = ProxyAction.IGNORE if self._networks else ProxyAction.USE
        return ProxyPolicy(
            tuple(self._networks), self._default or usual, self._seconds, self._limit
        )

    def allow(self) -> None:
        """Add the networks on the line; there may be none."""
        self._networks += map(self._network, self._controller.remaining_tokens())

    def _network(self, token: Token) -> Network:
        address, _, length = token.text.partition("/")
        try:
            if "%" in address or not length.isdecimal():
                raise ValueError
            return read_network(token.text)
        except ValueError:
            hint = "write a network as 192.0.2.0/24, a single address as 192.0.2.1/32"
            message = f"invalid CIDR address: {token.text!r}"
            raise self._controller.error(message, token, hint) from None

    def default(self) -> None:
        """Set the action for peers that are not allowed."""
        token = self._controller.argument()
        self._default = _ACTIONS.get(token.text.lower())
        if self._default is None:
            hint = f"write one of {', '.join(_ACTIONS)}"
            raise self._controller.error(f"unknown action {token.text!r}", token, hint)

    def udp_session_tracking(self) -> None:
        """Set the time and the number of sessions; a time that is not positive means none."""
        duration, *limit = self._controller.arguments(1, 2)
        self._seconds = max(0.0, self._controller.duration(duration))
        for token in limit:
            number = self._controller.integer(token)
            if number <= 0:
                message = f"invalid max sessions {token.text!r}: must be a positive number"
                raise self._controller.error(message, token)
            self._limit = number
