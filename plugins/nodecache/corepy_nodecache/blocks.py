"""Read the nodecache settings of a Corefile, for the one-shot commands."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from corepy.commands.corefile_blocks import controllers_of
from corepy.plugin import CorefileError
from corepy_nodecache.model import DesiredState, HostError
from corepy_nodecache.settings import union
from corepy_nodecache.setup import parse

if TYPE_CHECKING:
    from corepy_nodecache.model import Mode


class Plan(NamedTuple):
    """The desired state that a Corefile configures."""

    want: DesiredState
    mode: Mode
    """The kind of iptables for the rules; off if no block has rules."""

    warnings: tuple[str, ...]


def load_plan(path: str, default_port: int) -> Plan:
    """Read a Corefile; `default_port` is for zones without a port. Raises `HostError`."""
    try:
        controllers = controllers_of(path, "nodecache", default_port, after=["bind"])
        blocks = [parse(controller) for controller in controllers]
    except OSError as error:
        message = f"cannot read the Corefile {path}: {error.strerror}"
        raise HostError("configuration", message) from error
    except CorefileError as error:
        raise HostError("configuration", str(error)) from error
    modes: list[Mode] = [block.iptables for block in blocks if block.iptables != "off"]
    warnings = tuple(str(it) for controller in controllers for it in controller.warnings)
    return Plan(union([it.want() for it in blocks]), modes[0] if modes else "off", warnings)
