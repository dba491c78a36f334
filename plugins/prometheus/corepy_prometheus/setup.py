"""Parse the *prometheus* directive (CoreDNS: plugin/metrics/setup.go)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from corepy.http import read_address
from corepy_prometheus.handler import Prometheus

if TYPE_CHECKING:
    from corepy.plugin import Controller

DEFAULT_ADDRESS: Final = "localhost:9153"


def setup(controller: Controller) -> None:
    """Add the handler."""
    handler = Prometheus(controller.config, DEFAULT_ADDRESS, controller.block_handlers)
    options = {
        "runtime_metrics": lambda: _read_runtime(controller, handler),
        "tls": lambda: _refuse_tls(controller),
    }
    for _ in controller.single():
        handler.address = read_address(controller, handler.address)
        controller.options(options)
    controller.add_handler(handler)


def _read_runtime(controller: Controller, handler: Prometheus) -> None:
    controller.arguments(0, 0)
    handler.runtime = True


def _refuse_tls(controller: Controller) -> None:
    token = controller.token
    controller.argument()
    raise controller.error(
        "corepy does not export metrics over TLS", token, "put a proxy with TLS in front of it"
    )
