"""What `corepy explain` wants to know of a `forward` line."""

from __future__ import annotations

from typing import TYPE_CHECKING

from corepy.plugin import Handler

if TYPE_CHECKING:
    from corepy.dns import Reply, Request
    from corepy_forward.pool import Pool
    from corepy_forward.targets import Target


class Explained(Handler):
    """A handler with upstreams; see `corepy.plugin.Handler` for what is overridden."""

    pool: Pool | None
    with_metadata: bool

    def static_targets(self) -> list[Target]:
        """Return the upstreams that are known without looking up a name."""
        raise NotImplementedError

    def knows(self, request: Request, reply: Reply | None = None) -> dict[str, str | int]:
        """Return the upstreams that could be asked."""
        if not self.asks_outside(request):
            return {"state": "not its names"}
        if self.pool is None:
            known = [target.address for target in self.static_targets()]
        else:
            known = [
                f"{each.address} (down)" if each.is_down() else each.address
                for each in self.pool.upstreams
            ]
        return {"upstreams": ", ".join(known) or "none known yet"}

    def twin(self, below: Handler) -> Handler:
        """Return a copy that tells which upstream answered."""
        twin = super().twin(below)
        assert isinstance(twin, Explained)
        twin.with_metadata = True
        return twin
