"""Parse the *console* directive, which CoreDNS does not have."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from corepy.http import check_address, check_unix_path
from corepy_console.access import Access, is_host
from corepy_console.endpoint import Console
from corepy_console.token_file import digest_of, read_token
from corepy_console.where import DEFAULT_ADDRESS, UNIX, is_local

if TYPE_CHECKING:
    from corepy.plugin import Controller, Token

HINT: Final = "write one with: head -c 24 /dev/urandom | base64 > FILE"


def setup(controller: Controller) -> None:
    """Register the page."""
    parsed = _Parsed(controller)
    for _ in controller.single():
        parsed.read()
    controller.register(Console(parsed.address, Access(parsed.token, frozenset(parsed.hosts))))


class _Parsed:
    """The settings of the directive."""

    def __init__(self, controller: Controller) -> None:
        self.address = DEFAULT_ADDRESS
        self.token: bytes | None = None
        """The digest of the token."""
        self.hosts: list[str] = []
        self._controller = controller

    def read(self) -> None:
        """Parse the directive; raises `CorefileError`."""
        named = self._controller.token
        for argument in self._controller.arguments(0, 1):
            self._read_address(argument)
            named = argument
        self._controller.options({"token": self._read_token, "host": self._read_hosts})
        if self.token is None and not is_local(self.address):
            raise self._controller.error(
                f"console at {self.address} needs a token: every client that reaches it could"
                " read the names and addresses of all clients",
                named,
                f"add 'token FILE' in braces, or use {DEFAULT_ADDRESS} or unix:/PATH",
            )

    def _read_address(self, argument: Token) -> None:
        try:
            if argument.text.startswith(UNIX):
                check_unix_path(argument.text.removeprefix(UNIX))
            else:
                check_address(argument.text)
        except ValueError as error:
            hint = f"such as {DEFAULT_ADDRESS}, or unix:/run/corepy/console.sock"
            raise self._controller.error(str(error), argument, hint) from None
        self.address = argument.text

    def _read_token(self) -> None:
        argument = self._controller.argument("token FILE")
        path = self._controller.path(argument)
        self._controller.watch_file(path)
        try:
            token, is_public = read_token(path)
        except FileNotFoundError:
            if not self._controller.checking:
                raise self._controller.error(
                    f"the file {path} does not exist", argument, HINT
                ) from None
            self._controller.warn(f"the file {path} does not exist here", argument, HINT)
            self.token = b""  # the file may exist where the server will run
            return
        except (OSError, ValueError) as error:
            reason = getattr(error, "strerror", None) or str(error)
            raise self._controller.error(
                f"cannot use the token in {path}: {reason}", argument, HINT
            ) from None
        if is_public:
            message = f"all users of this machine can read the token in {path}"
            self._controller.warn(message, argument, "run chmod 600 on the file")
        self.token = digest_of(token)

    def _read_hosts(self) -> None:
        for argument in self._controller.arguments(1, None, "host NAME..."):
            name = argument.text.lower().rstrip(".")
            if not is_host(name):
                hint = "a name as in the address bar, without scheme and port"
                raise self._controller.error(
                    f"{argument.text!r} is not a host name", argument, hint
                )
            self.hosts.append(name)
