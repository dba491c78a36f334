"""Parse the *pprof* directive (CoreDNS: plugin/pprof/setup.go)."""

from __future__ import annotations

from ipaddress import ip_address
from typing import TYPE_CHECKING, Final

from corepy.http import read_address, split_address
from corepy_pprof.endpoint import Pprof

if TYPE_CHECKING:
    from corepy.plugin import Controller

DEFAULT_ADDRESS: Final = "localhost:6053"
DEFAULT_RATE: Final = 1
DEFAULT_FRAMES: Final = 8
MOST_FRAMES: Final = 64


def setup(controller: Controller) -> None:
    """Register the endpoint."""
    pprof = Pprof(DEFAULT_ADDRESS)
    options = {
        "block": lambda: _read_block(controller, pprof),
        "heap": lambda: _read_heap(controller, pprof),
    }
    for _ in controller.single():
        pprof.address = read_address(controller, pprof.address)
        if not _is_local(pprof.address):
            controller.warn(
                f"all clients that reach {pprof.address} can profile this server",
                hint=f"use a loopback address, such as {DEFAULT_ADDRESS}",
            )
        controller.options(options)
    controller.register(pprof)


def _is_local(address: str) -> bool:
    """Return whether only this machine reaches `address`; False for names other than localhost."""
    host = split_address(address)[0]
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host.lower().rstrip(".") == "localhost"


def _read_block(controller: Controller, pprof: Pprof) -> None:
    """`block [RATE]`; as in Go's runtime.SetBlockProfileRate, 0 or less turns it off."""
    pprof.block_rate = DEFAULT_RATE
    for argument in controller.arguments(0, 1):
        pprof.block_rate = controller.integer(argument)
        if pprof.block_rate <= 0:
            hint = "remove the option, or use a positive number of nanoseconds"
            controller.warn(f"block {argument.text} turns the block profile off", argument, hint)


def _read_heap(controller: Controller, pprof: Pprof) -> None:
    """`heap [FRAMES]`, which CoreDNS does not have: Go samples allocations at any time."""
    pprof.heap_frames = DEFAULT_FRAMES
    for argument in controller.arguments(0, 1):
        pprof.heap_frames = controller.integer(argument)
        if not 1 <= pprof.heap_frames <= MOST_FRAMES:
            raise controller.error(
                f"FRAMES must be from 1 to {MOST_FRAMES}, not {argument.text}", argument
            )
