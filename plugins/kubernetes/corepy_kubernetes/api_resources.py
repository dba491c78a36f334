"""The paths of the kinds of objects in the API, and the selectors of the objects."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple

from corepy_kubernetes.api_decode import IMPORT_LABEL
from corepy_kubernetes.objects import Kind

if TYPE_CHECKING:
    from corepy_kubernetes.objects import Needs

_RUNNING: Final = "status.phase!=Succeeded,status.phase!=Failed,status.phase!=Unknown"


class Resource(NamedTuple):
    """The path of a kind in the API, and the selectors of its objects."""

    kind: Kind
    path: str
    selectors: dict[str, str]


def resource(kind: Kind, needs: Needs) -> Resource:
    """Return the resource for a kind of objects."""
    _, path = _PLACES[kind]
    labels = needs.namespace_labels if kind is Kind.NAMESPACE else needs.labels
    if kind is Kind.SLICE and not needs.slices:
        labels = ",".join(filter(None, (labels, IMPORT_LABEL)))
    selectors = {"labelSelector": labels} if labels else {}
    if kind is Kind.POD:
        selectors["fieldSelector"] = _RUNNING
    return Resource(kind, path, selectors)


def group_of(kind: Kind) -> str:
    """Return the API group of a kind, "" for the core group."""
    return _PLACES[kind][0]


_PLACES: Final = {
    Kind.NAMESPACE: ("", "/api/v1/namespaces"),
    Kind.SERVICE: ("", "/api/v1/services"),
    Kind.POD: ("", "/api/v1/pods"),
    Kind.SLICE: ("discovery.k8s.io", "/apis/discovery.k8s.io/v1/endpointslices"),
    Kind.IMPORT: (
        "multicluster.x-k8s.io",
        "/apis/multicluster.x-k8s.io/v1alpha1/serviceimports",
    ),
}
