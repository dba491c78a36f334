"""Parse *dnstap* directives (CoreDNS: plugin/dnstap/setup.go)."""

from __future__ import annotations

import re
import socket
from pathlib import Path
from typing import TYPE_CHECKING, Final

from corepy.plugin import Mistakes, suggest
from corepy.plugin.placeholders import CONSTANT, VARYING, labels, unknown_placeholders
from corepy.release import version
from corepy_dnstap.encoding import LONGEST_TEXT
from corepy_dnstap.handler import Dnstap
from corepy_dnstap.settings import Endpoint, Settings, TLSFiles

if TYPE_CHECKING:
    from corepy.plugin import Controller, CorefileError, Token
    from corepy_dnstap.output import Output

MOST_MEBIBYTES: Final = 1024
MOST_QUEUES: Final = 4096
"""The limits of WRITEBUFFER and QUEUE, as in CoreDNS."""

_FULL: Final = "full"
_LONGEST_PATH: Final = 107
"""Bytes of the path of a Unix socket (unix(7))."""

_HOST_AND_PORT: Final = re.compile(r"(?:\[([^\[\]]*)\]|([^\[\]:/@]*)):([0-9]{1,5})")
_HINT: Final = "such as /run/dnstap.sock, tcp://192.0.2.1:6000 or tls://collector.example:6000"


def setup(controller: Controller) -> None:
    """Add one handler for each *dnstap* directive of the block, in order."""
    mistakes = Mistakes()
    for _ in controller.occurrences():
        with controller.statement(mistakes):
            settings = _Directive(controller).read()
            controller.add_handler(Dnstap(settings, _output(settings)))
    mistakes.settle()


def _output(settings: Settings) -> Output:
    if settings.listens:
        from corepy_dnstap.listening import ListeningOutput

        return ListeningOutput(settings)
    from corepy_dnstap.output import Connection

    return Connection(settings)


class _Directive:
    """Reads one directive into `Settings`."""

    def __init__(self, controller: Controller) -> None:
        self._c = controller

    def read(self) -> Settings:
        c = self._c
        arguments, mistakes = c.arguments(1), Mistakes()
        listens = arguments[0].text == "listen"
        if listens and len(arguments) < 2:
            raise c.error("listen has no endpoint", arguments[0], f"listen ENDPOINT, {_HINT}")
        token, *more = arguments[1:] if listens else arguments
        settings = self._settings = Settings(Endpoint("unix", ""), listens)
        with mistakes:
            settings.endpoint = self._endpoint(token)
        with mistakes:
            self._numbers(more)
        settings.identity = _host_name()
        settings.version = f"corepy-{version()}".encode()
        with mistakes:
            c.options(
                {
                    "identity": lambda: self._set("identity"),
                    "version": lambda: self._set("version"),
                    "extra": self._extra,
                    "skipverify": self._skip_verify,
                    "tls": self._tls,
                }
            )
        mistakes.settle()
        if listens and settings.endpoint.scheme == "tls" and settings.tls is None:
            raise c.error("tls:// has no certificate to listen with", token, "tls CERT KEY [CA]")
        return settings

    def _endpoint(self, token: Token) -> Endpoint:
        scheme, separator, rest = token.text.partition("://")
        if not separator or scheme not in ("unix", "tcp", "tls"):
            if separator and "/" not in scheme:
                near = suggest(scheme, ("unix", "tcp", "tls"))
                hint = f"did you mean '{near}://{rest}'?" if near else None
                self._c.warn(f"{token.text!r} is taken as the path of a Unix socket", token, hint)
            scheme, rest = "unix", token.text
        if scheme == "unix":
            return self._path(rest, token)
        address, slash, path = rest.partition("/")
        if slash and path:
            self._c.warn(f"the path of {token.text!r} has no meaning", token)
        match = _HOST_AND_PORT.fullmatch(address)
        least = 0 if self._settings.listens else 1
        if match is None or not least <= int(match[3]) <= 65535:
            raise self._c.error(f"no host and port in {token.text!r}", token, _HINT)
        host = match[1] or match[2] or ""
        if not host and not self._settings.listens:
            host = "localhost"  # as Go's net.Dial
        return Endpoint(scheme, host, int(match[3]))

    def _path(self, path: str, token: Token) -> Endpoint:
        size = len(path.encode("utf-8", "surrogateescape"))
        if not size:
            raise self._c.error(f"no path in {token.text!r}", token, _HINT)
        if size > _LONGEST_PATH:
            problem = f"the path of the socket has {size} bytes, more than {_LONGEST_PATH}"
            raise self._c.error(problem, token)
        return Endpoint("unix", path)

    def _numbers(self, tokens: list[Token]) -> None:
        """Parse `[full] [WRITEBUFFER] [QUEUE]`."""
        c, settings = self._c, self._settings
        if len(tokens) > 3:
            raise c.arg_error(tokens[3])
        if not tokens:
            return
        settings.full = tokens[0].text == _FULL
        if not settings.full:
            near = "did you mean 'full'? " if suggest(tokens[0].text, (_FULL,)) else ""
            hint = f"{near}the arguments are ENDPOINT [full] [WRITEBUFFER] [QUEUE]"
            c.warn(f"{tokens[0].text!r} has no meaning, so messages are not full", tokens[0], hint)
        if len(tokens) > 1:
            settings.write_buffer = self._number("WRITEBUFFER", tokens[1], MOST_MEBIBYTES)
        if len(tokens) > 2:
            settings.queue = self._number("QUEUE", tokens[2], MOST_QUEUES)

    def _number(self, what: str, token: Token, most: int) -> int:
        number = self._c.integer(token)
        if not 1 <= number <= most:
            raise self._c.error(f"{what} {number} is not between 1 and {most}", token)
        return number

    def _set(self, name: str) -> None:
        token = self._c.argument()
        data = token.text.encode("utf-8", "surrogateescape")
        if len(data) > LONGEST_TEXT:
            problem = f"the {name} has {len(data)} bytes, more than {LONGEST_TEXT}"
            raise self._c.error(problem, token)
        setattr(self._settings, name, data)

    def _extra(self) -> None:
        token = self._c.argument()
        self._settings.extra = token.text
        for name in unknown_placeholders(token.text):
            known = ", ".join((*CONSTANT, *VARYING))
            hint = f"placeholders: {known}, and /LABEL for metadata"
            self._c.warn(f"unknown placeholder {{{name}}}, sent unchanged", token, hint)
        for label in labels(token.text):
            self._c.reads_label(label, token, is_shown=True)

    def _skip_verify(self) -> None:
        self._c.arguments(0, 0)
        self._settings.skip_verify = True
        if self._settings.endpoint.scheme != "tls":
            self._c.warn("skipverify has an effect with tls:// only", self._c.token)

    def _tls(self) -> None:
        c, settings, option = self._c, self._settings, self._c.token
        if not settings.listens:
            raise self._not_for_connections(option)
        certificate, key, *authorities = paths = [
            Path(each.text).absolute() for each in c.arguments(2, 3)
        ]
        settings.tls = TLSFiles(certificate, key, authorities[0] if authorities else None)
        for path in paths:
            c.watch_file(path)
            if not path.exists():
                c.warn(f"{path} does not exist; the server listens as soon as it does", option)
        if settings.endpoint.scheme != "tls":
            c.warn("tls has an effect with tls:// only", option)

    def _not_for_connections(self, token: Token | None) -> CorefileError:
        hint = f"dnstap listen {self._settings.endpoint}"
        return self._c.error("tls is an option of listen only", token, hint)


def _host_name() -> bytes:
    try:
        return socket.gethostname().encode("utf-8", "surrogateescape")
    except OSError:
        return b""
