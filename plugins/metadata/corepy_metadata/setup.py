"""Parse the *metadata* directive (CoreDNS: plugin/metadata/setup.go)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from corepy.plugin import MetadataCollector
from corepy_metadata.metadata import Metadata

if TYPE_CHECKING:
    from corepy.plugin import Controller


def setup(controller: Controller) -> None:
    """Add the handler; the directive has no block and may be used once."""
    for _ in controller.single():
        zones = controller.zones_from(controller.remaining_tokens())
        controller.options({})
    handler = Metadata(zones)
    controller.add_handler(handler)
    controller.configure(MetadataCollector(handler.collect))
