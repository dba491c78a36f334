"""Describes a `forward` line for `corepy explain`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from corepy.plugin import Handler

if TYPE_CHECKING:
    from corepy.dns import Reply, Request
    from corepy_forward.pool import Pool
    from corepy_forward.targets import Target


class Explained(Handler):
    """A handler that describes its upstreams; overrides methods of `corepy.plugin.Handler`."""

    pool: Pool | None
    with_metadata: bool

    def static_targets(self) -> list[Target]:
        """Return the upstreams that are known without resolving host names."""
        raise NotImplementedError

    def explain_state(self, request: Request, reply: Reply | None = None) -> dict[str, str | int]:
        """Return the upstreams that the query may be sent to."""
        if not self.queries_upstream(request):
            return {"state": "not its names"}
        if self.pool is None:
            known = [target.address for target in self.static_targets()]
        else:
            known = [
                f"{each.address} (down)" if each.is_down() else each.address
                for each in self.pool.upstreams
            ]
        return {"upstreams": ", ".join(known) or "none known yet"}

    def copy_for_trace(self, below: Handler) -> Handler:
        """Return a copy that records the upstream that answered, as metadata of the query."""
        traced = super().copy_for_trace(below)
        assert isinstance(traced, Explained)
        traced.with_metadata = True
        return traced
