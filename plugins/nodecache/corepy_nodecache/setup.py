"""Parse the `nodecache` directive. Nothing on the host changes before `Nodecache.before_listen`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, cast

from corepy.plugin import ListenHosts, Mistakes, parse_unsigned
from corepy_nodecache.model import LAST_PORT, canonical_ip
from corepy_nodecache.settings import DEFAULT_IP, Settings

if TYPE_CHECKING:
    from collections.abc import Sequence

    from corepy.plugin import Controller, Token
    from corepy_nodecache.model import Mode

MODES: Final = ("auto", "legacy", "nft", "off")
SKIP_TEARDOWN: Final = "skipteardown"
_INTERFACE_BYTES: Final = 15  # IFNAMSIZ without the final NUL


def setup(controller: Controller) -> None:
    """Parse `nodecache` and register its lifecycle hooks; raises `CorefileError`."""
    settings = parse(controller)
    if settings.manages:
        from corepy_nodecache.lifecycle import Nodecache

        controller.register(Nodecache(settings))
    if settings.metrics:
        from corepy_nodecache.setup_metrics import SetupMetrics

        controller.register(SetupMetrics(settings.metrics))


def parse(controller: Controller) -> Settings:
    """Return the settings of this server block; raises `CorefileError`."""
    reader = _Reader(controller)
    options = {
        "interface": reader.interface,
        "iptables": reader.iptables,
        "interval": reader.interval,
        "device": reader.device,
        "address": reader.address,
        "port": reader.port,
        "health_port": reader.health_port,
        "best_effort": reader.best_effort,
        "metrics": reader.metrics,
        "adopt_node_cache": reader.adopt_node_cache,
    }
    mistakes = Mistakes()
    for _ in controller.occurrences():
        for token in controller.arguments():
            with mistakes:
                reader.argument(token)
        with controller.statement(mistakes):
            controller.options(options)
    mistakes.settle()
    return reader.finish()


class _Reader:
    """Builds the settings, one option at a time."""

    def __init__(self, controller: Controller) -> None:
        self._controller = controller
        self._settings = Settings()
        self._addresses: tuple[str, ...] = ()
        self._port: int | None = None
        self._health_port: int | None = None

    def argument(self, token: Token) -> None:
        # Upstream ignores unknown arguments, so there a misspelled skipteardown causes a teardown.
        if token.text.lower() != SKIP_TEARDOWN:
            raise self._controller.unknown_option([SKIP_TEARDOWN], token)
        self._settings = self._settings._replace(skip_teardown=True)

    def interface(self) -> None:
        token = self._controller.argument()
        name = token.text
        is_bad = name in ("", ".", "..") or any(it in "/:" or it.isspace() for it in name)
        if is_bad or len(name.encode()) > _INTERFACE_BYTES:
            hint = "1 to 15 bytes without spaces, '/' and ':'"
            raise self._controller.error(f"{name!r} is not the name of an interface", token, hint)
        self._settings = self._settings._replace(interface=name)

    def iptables(self) -> None:
        mode = cast("Mode", self._choice(MODES))
        self._settings = self._settings._replace(iptables=mode)

    def device(self) -> None:
        self._settings = self._settings._replace(device=self._choice(("on", "off")) == "on")

    def interval(self) -> None:
        token = self._controller.argument()
        seconds = self._controller.duration(token)
        if seconds < 0 or 0 < seconds < 1:
            hint = "such as 60s or 1m30s, at least 1s; 0 turns the slow poll off"
            raise self._controller.error(f"{token.text!r} is not an interval", token, hint)
        self._settings = self._settings._replace(interval=seconds)

    def address(self) -> None:
        for token in self._controller.arguments(1):
            try:
                self._addresses += (canonical_ip(token.text),)
            except ValueError as error:
                hint = "such as 169.254.20.10, the address that pods use for DNS"
                raise self._controller.error(str(error), token, hint) from error

    def port(self) -> None:
        self._port = self._read_port()

    def health_port(self) -> None:
        self._health_port = self._read_port()

    def best_effort(self) -> None:
        self._controller.arguments(most=0)
        self._settings = self._settings._replace(best_effort=True)

    def adopt_node_cache(self) -> None:
        self._controller.arguments(most=0)
        self._settings = self._settings._replace(adopt_node_cache=True)

    def metrics(self) -> None:
        from corepy.http import check_address

        token = self._controller.argument()
        try:
            check_address(token.text)
        except ValueError as error:
            raise self._controller.error(str(error), token, "such as :9353") from None
        self._settings = self._settings._replace(metrics=token.text)

    def finish(self) -> Settings:
        """Return the settings, completed from the other directives of the server block."""
        config = self._controller.config
        ports = tuple(sorted({key.port for key in config.keys}))
        if self._port is not None:
            ports = (self._port,)
        ips = tuple(dict.fromkeys(self._addresses)) or self._ips(config.get(ListenHosts).hosts)
        settings = self._settings._replace(ips=ips, ports=ports)
        if self._health_port is not None:
            return settings._replace(health=tuple((ip, self._health_port) for ip in ips))
        health = _health(self._controller.sibling("health"))
        return settings._replace(health=(health,) if health and health[0] in settings.ips else ())

    def _ips(self, hosts: Sequence[str]) -> tuple[str, ...]:
        if not self._settings.manages and not (any(hosts) and all(map(_is_ip, hosts))):
            return ()
        if not any(hosts):
            message = f"no bind in this server block: using {DEFAULT_IP}, as node-cache does"
            self._controller.warn(message, hint="write: bind ADDRESS")
            return (DEFAULT_IP,)
        try:
            return tuple(dict.fromkeys(canonical_ip(host) for host in hosts))
        except ValueError as error:
            hint = "bind the addresses that pods use for DNS, such as 169.254.20.10"
            message = f"nodecache cannot use an address of bind: {error}"
            raise self._controller.error(message, hint=hint) from error

    def _read_port(self) -> int:
        token = self._controller.argument()
        port = parse_unsigned(token.text, LAST_PORT)
        if port is None:
            raise self._controller.error(f"{token.text!r} is not a port", token, "0 to 65535")
        return port

    def _choice(self, choices: Sequence[str]) -> str:
        token = self._controller.argument()
        if token.text not in choices:
            message = f"{token.text!r} is not one of {', '.join(choices)}"
            raise self._controller.error(message, token)
        return token.text


def _is_ip(host: str) -> bool:
    try:
        return bool(canonical_ip(host))
    except ValueError:
        return False


def _health(tokens: Sequence[Token]) -> tuple[str, int] | None:
    """Return the address and port of *health*, or None if its address is missing or a wildcard."""
    if len(tokens) < 2 or tokens[1].line != tokens[0].line:
        return None
    host, _, port = tokens[1].text.rpartition(":")
    try:
        return canonical_ip(host.strip("[]")), int(port)
    except ValueError:  # *health* reports its own errors
        return None
