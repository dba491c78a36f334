"""The options of *kubernetes* that are about the API: where it is, credentials, limits, `keep`."""

from __future__ import annotations

import math
import re
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Final

from corepy_kubernetes.api_config import (
    DEFAULT_BURST,
    DEFAULT_QPS,
    Access,
    Limits,
    NotInCluster,
    endpoint_target,
    in_cluster_access,
    without_password,
)
from corepy_kubernetes.api_credentials import make_context

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from corepy.http.http_client import HTTPTarget
    from corepy.plugin import Controller, Token

_NUMBER: Final = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?", re.ASCII)
_TLS_FILES: Final = ("certificate", "key", "CA certificate")


class ApiOptions:
    """Reads the options, and combines them to an access."""

    def __init__(self) -> None:
        self.access = Access()
        """How to reach the API; known after `settle`."""
        self.limits = Limits()
        self.keep: Path | None = None
        self.keep_token: Token | None = None
        self._endpoints: Sequence[Token] = ()
        self._tls: Sequence[Token] = ()
        self._kubeconfig: Sequence[Token] = ()
        self._numbers: dict[str, float] = {}

    def table(self, controller: Controller) -> dict[str, Callable[[], None]]:
        """Return a parser for each option."""
        return {
            "endpoint": partial(self._read_endpoints, controller),
            "tls": partial(self._read_tls, controller),
            "kubeconfig": partial(self._read_kubeconfig, controller),
            "apiserver_qps": partial(self._read_qps, controller),
            "apiserver_burst": partial(self._read_count, controller, "burst"),
            "apiserver_max_inflight": partial(self._read_count, controller, "max_inflight"),
            "keep": partial(self._read_keep, controller),
        }

    def _read_endpoints(self, controller: Controller) -> None:
        self._endpoints = controller.arguments(1, hint="endpoint https://kubernetes:6443")
        for token in self._endpoints:
            if "@" in token.text:  # a password
                token.hide()

    def _read_tls(self, controller: Controller) -> None:
        self._tls = controller.arguments(3, 3, hint="tls CERT KEY CACERT")

    def _read_kubeconfig(self, controller: Controller) -> None:
        self._kubeconfig = controller.arguments(1, 2, hint="kubeconfig FILE [CONTEXT]")

    def _read_qps(self, controller: Controller) -> None:
        token = controller.argument(hint="apiserver_qps 20")
        if not _NUMBER.fullmatch(token.text):
            raise controller.error(f"invalid apiserver_qps {token.text!r}: not a number", token)
        number = float(token.text)
        if math.isinf(number):
            raise controller.error(f"invalid apiserver_qps {token.text!r}: too large", token)
        self._number(controller, "qps", number, token)

    def _read_count(self, controller: Controller, name: str) -> None:
        token = controller.argument(hint=f"apiserver_{name} 10")
        self._number(controller, name, controller.integer(token), token)

    def _number(self, controller: Controller, name: str, number: float, token: Token) -> None:
        if number < 0:
            raise controller.error(f"apiserver_{name} must be >= 0", token)
        self._numbers[name] = number

    def _read_keep(self, controller: Controller) -> None:
        token = controller.argument(hint="keep /var/lib/corepy/kubernetes")
        if self.keep is not None:
            raise controller.error("keep can only be specified once")
        self.keep, self.keep_token = controller.path(token), token
        if not self.keep.parent.is_dir():
            message = f"the folder {self.keep.parent} does not exist here"
            controller.warn(message, token, "create it, or nothing is kept")

    def settle(self, controller: Controller, token: Token) -> None:
        """Find out how to reach the API, at the end of the directive at `token`.

        Raises `CorefileError`. With `Controller.checking`, what depends on this host is a warning.
        """
        numbers = self._numbers
        self.limits = Limits(
            numbers.get("qps") or DEFAULT_QPS,
            int(numbers.get("burst") or DEFAULT_BURST),
            int(numbers.get("max_inflight", 0)),
        )
        if self._kubeconfig:
            self._use_kubeconfig(controller)
        elif self._endpoints:
            self._use_endpoints(controller)
        else:
            self._use_service_account(controller, token)
        if self._tls and (self._kubeconfig or not self._endpoints):
            controller.warn("tls has no effect without endpoint", self._tls[0])

    def _use_kubeconfig(self, controller: Controller) -> None:
        from corepy_kubernetes.api_kubeconfig import read_kubeconfig

        token = self._kubeconfig[0]
        path = Path(token.text)
        controller.watch_file(path)
        context = self._kubeconfig[1].text if len(self._kubeconfig) > 1 else ""
        try:
            self.access = read_kubeconfig(path, context)
        except OSError as error:
            problem = f"cannot read {path}: {error.strerror}"
            _host_problem(controller, problem, token, "name an existing kubeconfig file")
        except ValueError as error:
            raise controller.error(f"{path}: {error}", token) from None
        else:
            self._check_files(controller, token)

    def _use_endpoints(self, controller: Controller) -> None:
        files = [Path(it.text) for it in self._tls]
        targets = tuple(_target(controller, it, bool(files)) for it in self._endpoints)
        certificate, key, authority = files or (None, None, None)
        self.access = Access(targets, authority=authority, certificate=certificate, key=key)
        if self._tls:
            self._check_files(controller, self._tls[0])

    def _use_service_account(self, controller: Controller, token: Token) -> None:
        try:
            self.access = in_cluster_access()
        except NotInCluster as reason:
            problem = f"corepy does not run in a cluster: {reason}"
            hint = "outside of a cluster, name the API with endpoint or kubeconfig"
            _host_problem(controller, problem, token, hint)

    def _check_files(self, controller: Controller, token: Token) -> None:
        if all(it.scheme != "https" for it in self.access.endpoints):
            return
        try:
            make_context(self.access)
        except OSError as error:
            hint = f"the files are: {', '.join(_TLS_FILES)}; each in PEM"
            _host_problem(controller, str(error), token, hint)


def _target(controller: Controller, token: Token, is_secure: bool) -> HTTPTarget:
    try:
        return endpoint_target(token.text, is_secure=is_secure)
    except ValueError as error:
        message = f"{without_password(token.text)!r} is not the URL of an API: {error}"
        raise controller.error(message, token, "such as https://kubernetes:6443") from None


def _host_problem(controller: Controller, problem: str, token: Token, hint: str) -> None:
    """Refuse a configuration that this host cannot use; a check only warns of it."""
    if not controller.checking:
        raise controller.error(problem, token, hint)
    controller.warn(problem, token, hint)
