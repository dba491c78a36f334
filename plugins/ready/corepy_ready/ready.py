"""The endpoint /ready (CoreDNS: plugin/ready/ready.go, list.go).

Calls the hook `ready` of all plugins of the generation. A plugin that returned True is not called
again, unless configured to monitor continuously; a reload calls all plugins again.
"""

from __future__ import annotations

from http import HTTPStatus
from typing import TYPE_CHECKING

from corepy.http import HTTPRequest, HTTPResponse, claim
from corepy.plugin import LifecycleContext, hookimpl, plugin_logger
from corepy.plugin.failures import report

if TYPE_CHECKING:
    import pluggy

    from corepy.http import Claim

PATH = "/ready"
LOG = plugin_logger("ready")


class Ready:
    """Serves /ready for one generation."""

    def __init__(self, address: str, *, continuously: bool = False) -> None:
        """Serve at `address` (host:port)."""
        self.address = address
        self.continuously = continuously
        self._claim: Claim | None = None
        self._plugins: pluggy.PluginManager
        self._ready: set[str] = set()
        self._stopping = False

    @hookimpl(tryfirst=True)  # tryfirst runs last at the start
    async def before_listen(self, context: LifecycleContext) -> None:
        """Bind the address, which nodecache may just have added; a failure refuses the start."""
        self._claim = await claim(self.address)

    @hookimpl(tryfirst=True)
    def serving(self, context: LifecycleContext) -> None:
        """Serve /ready, now that all plugins have started."""
        assert self._claim is not None
        self._plugins = context.plugins
        self._claim.serve(PATH, self.answer)

    @hookimpl(tryfirst=True)  # tryfirst runs first when stopping: before a lame duck
    def stopping(self, context: LifecycleContext) -> None:
        """Answer 503 from now on if the process stops."""
        self._stopping = context.final

    @hookimpl
    async def shutdown(self, context: LifecycleContext) -> None:
        """Release the address."""
        if self._claim is not None:
            await self._claim.close()

    def answer(self, request: HTTPRequest) -> HTTPResponse:
        """Answer a request for /ready."""
        if self._stopping:
            return HTTPResponse(b"Shutting down", HTTPStatus.SERVICE_UNAVAILABLE)
        waiting = self.not_ready()
        if not waiting:
            return HTTPResponse(b"OK")
        names = ",".join(waiting)
        LOG.info("Plugins not ready: %r", names)
        return HTTPResponse(names.encode(), HTTPStatus.SERVICE_UNAVAILABLE)

    def not_ready(self) -> list[str]:
        """Return the names of the plugins that are not ready, sorted."""
        names = set()
        for implementation in self._plugins.hook.ready.get_hookimpls():
            identity = implementation.plugin_name
            if identity in self._ready:
                continue
            if _is_ready(implementation):
                if not self.continuously:
                    self._ready.add(identity)
            else:
                names.add(_directive(implementation))
        return sorted(names)


def _is_ready(implementation: pluggy.HookImpl) -> bool:
    try:
        return bool(implementation.function())
    except BaseException as error:  # foreign code: sys.exit() in it must not stop the server
        report(_directive(implementation), "hook", "failed to report whether it is ready", error)
        return False


def _directive(implementation: pluggy.HookImpl) -> str:
    return implementation.plugin_name.rpartition(".")[0]
