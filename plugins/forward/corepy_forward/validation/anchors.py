"""`TrustAnchors`: finds the trust anchor of a name, and the names that are not validated.

`anchor_files` reads anchors, `anchor_updates` tracks their changes (RFC 5011).
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from corepy.dns.names import parent_offsets, to_text
from corepy_forward.validation.anchor import Anchor as Anchor
from corepy_forward.validation.anchor import NegativeAnchor as NegativeAnchor
from corepy_forward.validation.anchor import SeenKeys as SeenKeys
from corepy_forward.validation.anchor import deepest

if TYPE_CHECKING:
    from collections.abc import Iterable

    from corepy_forward.validation.anchor_service import AnchorService


class TrustAnchors:
    """The trust anchors of one `forward` line; names are in wire form and lower case."""

    def __init__(self, service: AnchorService, negative: Iterable[NegativeAnchor] = ()) -> None:
        """Use the anchors of `service`, which several lines may share."""
        self.service = service
        self.keeper = service.keeper
        self.negative = {anchor.zone: anchor for anchor in negative}

    @property
    def version(self) -> int:
        """A number that grows with each change: keys validated before may not be trusted now."""
        return self.keeper.version

    def closest(self, name: bytes) -> Anchor | None:
        """Return the deepest anchor at or above a name, None if there is none."""
        zone = deepest(self.keeper.anchors, name)
        return None if zone is None else self.keeper.anchors[zone]

    def is_negative(self, name: bytes) -> bool:
        """Return whether a name is not validated.

        That is the case if it is at or below a negative anchor, and no trust anchor is deeper (RFC
        7646 section 2).
        """
        for offset in parent_offsets(name) if self.negative else ():
            negative = self.negative.get(name[offset:])
            if negative is not None and time.time() < negative.until:  # time of day: the operator's
                return True
            if name[offset:] in self.keeper.anchors:
                return False
        return False

    def explain(self, name: bytes) -> str:
        """Return where the validation of a name begins, for `corepy explain`."""
        if self.is_negative(name):
            return "none: a negative trust anchor is above the name"
        anchor = self.closest(name)
        if anchor is None:
            return "none: no trust anchor is above the name"
        return f"from the trust anchor of {to_text(anchor.zone)}"

    def observe(self, zone: bytes, seen: SeenKeys) -> None:
        """Take note of a DNSKEY set of an anchor's zone that was just received.

        It need not be validated: whether it changes the anchors depends on its signers.
        """
        self.keeper.observe(zone, seen)
