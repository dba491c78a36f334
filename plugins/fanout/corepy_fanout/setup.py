"""Parse the *fanout* directive (github.com/networkservicemesh/fanout: setup.go).

As there, names of options are not case-sensitive, and further words on the line of an option with
one argument are read as the next option.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from corepy.plugin import CorefileError, Mistakes, parse_integer
from corepy.plugin.reading import read_file
from corepy.plugin.upstream_words import read_upstreams
from corepy_fanout.handler import LABEL, Fanout
from corepy_fanout.settings import (
    LEAST_WORKERS,
    MOST_UPSTREAMS,
    MOST_WEIGHT,
    MOST_WORKERS,
    NETWORKS,
    POLICIES,
    Settings,
)

if TYPE_CHECKING:
    from collections.abc import Callable

    from corepy.plugin import Controller, Token


def setup(controller: Controller) -> None:
    """Add the handler, with an embedded *forward* for each upstream."""
    for _ in controller.single("use several upstreams in one line"):
        settings, token = _Line(controller).read()
    embedded = [
        controller.embed("forward", settings.lines_for(upstream), token)
        for upstream in settings.upstreams
    ]
    with_metadata = bool(controller.sibling("metadata"))
    controller.add_handler(Fanout(settings, embedded, with_metadata=with_metadata))
    controller.provides_labels([LABEL])


class _Line:
    """Parses the directive into `Settings`."""

    def __init__(self, controller: Controller) -> None:
        self._c = controller
        self._settings = Settings()

    def read(self) -> tuple[Settings, Token]:
        """Return the settings, and the first TO, at which errors of *forward* are reported."""
        c, settings, mistakes = self._c, self._settings, Mistakes()
        zone, *targets = c.arguments(2, hint="such as: fanout . 192.0.2.1 192.0.2.2")
        with mistakes:
            self._options()
        with mistakes:
            settings.zone = c.zones_of(zone)[0]
        with mistakes:
            settings.upstreams = [upstream for _, upstream in read_upstreams(c, targets)]
        mistakes.settle()
        count = len(settings.upstreams)
        if count > MOST_UPSTREAMS:
            raise c.error(f"more than {MOST_UPSTREAMS} TOs configured: {count}", targets[0])
        if settings.weights and len(settings.weights) != count:
            raise c.error(
                "load-factor params count must be the same as the number of hosts", targets[0]
            )
        settings.complete()
        return settings, targets[0]

    def _options(self) -> None:
        c, table, mistakes = self._c, self._table(), Mistakes()
        while c.next_block():
            with c.statement(mistakes):
                action = table.get(c.val.lower())
                if action is None:
                    raise c.unknown_option(table)
                action()
        mistakes.settle()

    def _table(self) -> dict[str, Callable[[], None]]:
        return {
            "tls": self._tls,
            "tls-server": self._tls_server,
            "tls_servername": self._tls_server,  # the name in its README
            "network": self._network,
            "worker-count": self._workers,
            "policy": self._policy,
            "weighted-random-server-count": self._server_count,
            "weighted-random-load-factor": self._weights,
            "timeout": self._timeout,
            "race": self._race,
            "except": self._except,
            "except-file": self._except_file,
            "attempt-count": self._attempts,
        }

    def _number(self) -> int:
        token = self._c.next_argument()
        number = parse_integer(token.text)
        if number is None or number < 0:
            raise self._c.arg_error(token, "a number that is not negative")
        return number

    def _tls(self) -> None:
        self._settings.tls = [token.text for token in self._c.arguments(0, 3)]

    def _tls_server(self) -> None:
        self._settings.tls_server = self._c.next_argument().text

    def _network(self) -> None:
        token = self._c.next_argument()
        if token.text.lower() not in NETWORKS:
            hint = f"known networks: {', '.join(NETWORKS)}"
            raise self._c.error(f"unknown network protocol {token.text!r}", token, hint)
        self._settings.network = token.text.lower()

    def _workers(self) -> None:
        count = self._number()
        if count < LEAST_WORKERS:
            raise self._c.error(
                f"worker count should be more or equal {LEAST_WORKERS}. Consider to use Forward"
                " plugin"
            )
        if count > MOST_WORKERS:
            raise self._c.error(f"worker count more then max value: {MOST_WORKERS}")
        self._settings.worker_count = count

    def _policy(self) -> None:
        token = self._c.next_argument()
        if token.text.lower() not in POLICIES:
            hint = f"known policies: {', '.join(POLICIES)}"
            raise self._c.error(f"unknown policy {token.text!r}", token, hint)
        self._settings.policy = token.text.lower()

    def _server_count(self) -> None:
        self._settings.server_count = self._number()

    def _weights(self) -> None:
        for token in self._c.arguments(1):
            weight = self._c.integer(token)
            if weight < 1:
                raise self._c.error("load-factor should be more or equal 1", token)
            if weight > MOST_WEIGHT:
                raise self._c.error(
                    f"load-factor {weight} should be less than {MOST_WEIGHT}", token
                )
            self._settings.weights.append(weight)

    def _timeout(self) -> None:
        token = self._c.next_argument()
        seconds = self._c.duration(token)
        if seconds <= 0:
            raise self._c.error(f"timeout {token.text} is not positive", token)
        self._settings.timeout = seconds

    def _race(self) -> None:
        if self._c.next_arg():
            raise self._c.arg_error()
        self._settings.is_race = True

    def _except(self) -> None:
        for token in self._c.arguments(1):
            self._settings.excluded.append(self._c.zones_of(token)[0])

    def _except_file(self) -> None:
        """Read a file with a domain on each line; blank lines are skipped."""
        token = self._c.argument()
        path = self._c.path(token)
        try:
            content, _ = read_file(path)
        except OSError as error:
            raise self._c.error(f"cannot read {path}: {error.strerror}", token) from None
        self._c.watch_file(path.absolute())
        for number, line in enumerate(content.decode("utf-8-sig", "replace").split("\n"), 1):
            if line.strip():
                self._except_line(token.with_text(line.strip()), f"{path}:{number}")

    def _except_line(self, domain: Token, place: str) -> None:
        try:
            self._settings.excluded.append(self._c.zones_of(domain)[0])
        except CorefileError as error:
            raise self._c.error(f"{place}: {error.diagnostics[0].message}", domain) from None

    def _attempts(self) -> None:
        self._settings.attempts = self._number()
