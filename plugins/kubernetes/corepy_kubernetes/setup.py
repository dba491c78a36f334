"""Parse the *kubernetes* directive (CoreDNS: plugin/kubernetes/setup.go)."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Final

from corepy.plugin import Fallthrough, suggest
from corepy.plugin.reading import read_file
from corepy.plugin.resolv_conf import MOST_BYTES, read_search_list
from corepy_kubernetes.answered import Answered
from corepy_kubernetes.answers import Answers
from corepy_kubernetes.api import ApiOptions, check_kept_file, make_source
from corepy_kubernetes.index import Index
from corepy_kubernetes.kubernetes import Kubernetes
from corepy_kubernetes.lookup import PodMode, Rules
from corepy_kubernetes.metrics import Programming
from corepy_kubernetes.names import OwnZones
from corepy_kubernetes.objects import Needs
from corepy_kubernetes.selector import InvalidSelector, canonical_selector

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from corepy.plugin import Controller, Token

DEFAULT_TTL: Final = 5
LONGEST_TTL: Final = 3600
DEFAULT_STARTUP_TIMEOUT: Final = 5.0
"""Seconds."""

RESOLV_CONF: Final = Path("/etc/resolv.conf")
"""The file whose search path ends that of pods."""

_EMPTY_SERVICE: Final = "empty_service"
_SELECTOR_HINT: Final = "such as: labels environment in (production, staging),application=nginx"


@dataclass(slots=True)
class Settings:
    """The arguments and options of the directive."""

    zones: list[str] = field(default_factory=list)
    namespaces: set[str] = field(default_factory=set)
    labels: str = ""
    namespace_labels: str = ""
    namespace_labels_token: Token | None = None
    pods: PodMode = PodMode.DISABLED
    pod_names: bool = False
    endpoints: bool = True
    zonal: Token | None = None
    ignore_empty: bool = False
    multicluster: list[tuple[str, Token]] = field(default_factory=list)
    ttl: int = DEFAULT_TTL
    startup_timeout: float = DEFAULT_STARTUP_TIMEOUT
    fallthrough: Fallthrough = field(default_factory=Fallthrough)

    def needs(self, *, pod_labels: bool) -> Needs:
        """Return which objects and fields are needed."""
        verified = self.pods is PodMode.VERIFIED
        return Needs(
            slices=self.endpoints,
            pods=verified,
            imports=bool(self.multicluster),
            labels=self.labels,
            namespace_labels=self.namespace_labels,
            pod_labels=verified and pod_labels,
            pod_names=self.pod_names,
            zones=self.zonal is not None,
        )

    def rules(self) -> Rules:
        """Return which names exist."""
        return Rules(
            pods=self.pods,
            pod_names=self.pod_names,
            ignore_empty=self.ignore_empty,
            zonal=self.zonal is not None,
        )


def setup(controller: Controller) -> None:
    """Add the handler, which follows the cluster from the start on."""
    settings, api = Settings(), ApiOptions()
    directive = controller.token
    for _ in controller.single():
        directive = controller.token
        settings.zones = controller.zones_from(controller.remaining_tokens())
        controller.options({**_options(controller, settings), **api.table(controller)})
    assert directive is not None
    zones = OwnZones(settings.zones, [zone for zone, _ in settings.multicluster])
    _check(controller, settings, zones, directive)
    api.settle(controller, directive)
    _add(controller, settings, zones, api)


def _add(controller: Controller, settings: Settings, zones: OwnZones, api: ApiOptions) -> None:
    needs = settings.needs(pod_labels=bool(controller.sibling("metadata")))
    check_kept_file(controller, api, needs)
    answered = Answered()
    namespaces = settings.namespaces or None
    index = Index(needs, answered, namespaces=namespaces, latency=Programming())
    handler = Kubernetes(
        index,
        answered,
        Answers(settings.ttl),
        zones,
        settings.rules(),
        settings.fallthrough,
        config=controller.config,
        startup_timeout=settings.startup_timeout,
        keeps=api.keep is not None,
        search=_search_path() if needs.pods else (),
    )
    name = " ".join(("kubernetes", *settings.zones))
    handler.source = make_source(api, needs, index, name)
    controller.add_handler(handler)


def _search_path() -> tuple[bytes, ...]:
    """Return the search path of this host, none if its file cannot be read."""
    try:
        content, _ = read_file(RESOLV_CONF, MOST_BYTES)
    except OSError:
        return ()
    return read_search_list(content).domains


def _check(controller: Controller, settings: Settings, zones: OwnZones, directive: Token) -> None:
    """Raise `CorefileError` for options that contradict each other."""
    if zones.primary is None:
        message = "non-reverse zone name must be used"
        hint = "add the zone of the cluster: kubernetes cluster.local in-addr.arpa ip6.arpa"
        raise controller.error(message, directive, hint)
    if settings.namespaces and settings.namespace_labels:
        message = "namespaces and namespace_labels cannot both be set"
        raise controller.error(message, settings.namespace_labels_token, "remove one of them")
    for zone, token in settings.multicluster:
        if zone not in settings.zones:
            message = f"kubernetes is not authoritative for the multicluster zone {zone}"
            hint = f"its zones are {', '.join(settings.zones)}; add {zone} to them"
            raise controller.error(message, token, hint)
    if settings.zonal and not settings.endpoints:
        message = "zonal requires endpoints, which noendpoints disables"
        raise controller.error(message, settings.zonal, "remove noendpoints")
    _warn(controller, settings)


def _warn(controller: Controller, settings: Settings) -> None:
    """Warn about another plugin that needs `pods verified`."""
    if settings.pods is PodMode.VERIFIED:
        return
    for token in controller.sibling("autopath"):
        if token.text == "@kubernetes":
            message = "autopath @kubernetes has no effect: kubernetes does not know the pods"
            controller.warn(message, token, "add pods verified to the block of kubernetes")


def _options(controller: Controller, settings: Settings) -> Mapping[str, Callable[[], None]]:
    return {
        "endpoint_pod_names": lambda: _flag(controller, settings, "pod_names", value=True),
        "noendpoints": lambda: _flag(controller, settings, "endpoints", value=False),
        "zonal": lambda: _flag(controller, settings, "zonal", value=controller.token),
        "pods": lambda: _pods(controller, settings),
        "namespaces": lambda: _namespaces(controller, settings),
        "labels": lambda: setattr(settings, "labels", _selector(controller)),
        "namespace_labels": lambda: _namespace_labels(controller, settings),
        "fallthrough": lambda: setattr(settings, "fallthrough", controller.fallthrough()),
        "ttl": lambda: _ttl(controller, settings),
        "ignore": lambda: _ignore(controller, settings),
        "multicluster": lambda: _multicluster(controller, settings),
        "startup_timeout": lambda: _startup_timeout(controller, settings),
    }


def _flag(controller: Controller, settings: Settings, name: str, *, value: object) -> None:
    controller.arguments(0, 0)
    setattr(settings, name, value)


def _pods(controller: Controller, settings: Settings) -> None:
    token = controller.argument("such as: pods verified")
    modes = [mode.value for mode in PodMode]
    if token.text not in modes:
        near = suggest(token.text, modes)
        message = f"wrong value for pods: {token.text!r}, must be one of: {', '.join(modes)}"
        raise controller.error(message, token, f"did you mean {near!r}?" if near else None)
    settings.pods = PodMode(token.text)


def _namespaces(controller: Controller, settings: Settings) -> None:
    settings.namespaces.update(token.text for token in controller.arguments(1))


def _namespace_labels(controller: Controller, settings: Settings) -> None:
    settings.namespace_labels_token = controller.token
    settings.namespace_labels = _selector(controller)


def _selector(controller: Controller) -> str:
    """Return the label selector on the rest of the line."""
    words = controller.arguments(1, hint=_SELECTOR_HINT)
    text = " ".join(word.text for word in words)
    try:
        return canonical_selector(text)
    except InvalidSelector as error:
        message = f"unable to parse label selector {text!r}: {error}"
        raise controller.error(message, words[0], _SELECTOR_HINT) from None


def _ttl(controller: Controller, settings: Settings) -> None:
    token, *surplus = controller.arguments(1)
    _warn_surplus(controller, surplus, "ttl takes one number")
    settings.ttl = controller.integer(token)
    if not 0 <= settings.ttl <= LONGEST_TTL:
        message = f"ttl must be in range [0, {LONGEST_TTL}]: {token.text}"
        raise controller.error(message, token)


def _ignore(controller: Controller, settings: Settings) -> None:
    option = controller.token
    words = controller.remaining_tokens()
    if not words:
        controller.warn(f"ignore has no effect without {_EMPTY_SERVICE}", option)
        return
    if words[0].text != _EMPTY_SERVICE:
        message = f"unable to parse ignore value: {words[0].text!r}"
        raise controller.error(message, words[0], f"only {_EMPTY_SERVICE} can be ignored")
    _warn_surplus(controller, words[1:], "ignore takes one word")
    settings.ignore_empty = True


def _warn_surplus(controller: Controller, surplus: Sequence[Token], reason: str) -> None:
    if surplus:
        controller.warn(f"{surplus[0].text!r} is ignored: {reason}", surplus[0])


def _multicluster(controller: Controller, settings: Settings) -> None:
    settings.multicluster = [
        (zone, token)
        for token in controller.remaining_tokens()
        for zone in controller.zones_from([token])
    ]


def _startup_timeout(controller: Controller, settings: Settings) -> None:
    token, *surplus = controller.arguments(1)
    _warn_surplus(controller, surplus, "startup_timeout takes one duration")
    settings.startup_timeout = controller.duration(token)
