"""A Kubernetes API server for tests: lists in pages, watches, and all that goes wrong with them.

The shapes of responses, errors and events are those of kube-apiserver 1.36. Everything runs in one
event loop; `ThreadedAPI` runs it in a thread of its own, for tests of the whole server.

    async with serving(FakeAPI()) as api:        # or: with ThreadedAPI() as api
        api.put("services", service("web", addresses=["10.0.0.1"]))
        ...                                      # api.url is the endpoint
        api.delete("services", "default", "web")
"""

import asyncio
import json
import threading
from contextlib import asynccontextmanager, suppress
from typing import Any
from urllib.parse import parse_qs, urlsplit

import h11

from corepy.testing import free_port

PATHS = {
    "/api/v1/namespaces": ("namespaces", "Namespace", "v1"),
    "/api/v1/services": ("services", "Service", "v1"),
    "/api/v1/pods": ("pods", "Pod", "v1"),
    "/apis/discovery.k8s.io/v1/endpointslices": (
        "endpointslices",
        "EndpointSlice",
        "discovery.k8s.io/v1",
    ),
    "/apis/multicluster.x-k8s.io/v1alpha1/serviceimports": (
        "serviceimports",
        "ServiceImport",
        "multicluster.x-k8s.io/v1alpha1",
    ),
}
END = object()
"""Ends a watch as the server does after timeoutSeconds."""

CUT = object()
"""Ends the connection of a watch in its midst."""


# -- objects


def meta(name, namespace=None, **more):
    """Metadata as a server returns it, with a field that DNS does not need."""
    place = {} if namespace is None else {"namespace": namespace}
    uid = f"0000-{namespace}-{name}"
    fields = [{"manager": "test", "operation": "Update", "fieldsV1": {"f:spec": {}}}]
    return {"name": name, **place, "uid": uid, **more, "managedFields": fields}


def service(name, namespace="default", addresses=(), ports=(), *, labels=None, status=None, **spec):
    """A Service; without addresses it is headless. Ports are (name, protocol, number)."""
    ips = list(addresses) or ["None"]
    listed = [
        {"name": n, "protocol": p, "port": number, "targetPort": number} for n, p, number in ports
    ]
    return {
        "metadata": meta(name, namespace, labels=labels or {}),
        "spec": {
            "clusterIP": ips[0],
            "clusterIPs": ips,
            "type": "ClusterIP",
            "ports": listed,
            **spec,
        },
        "status": status or {"loadBalancer": {}},
    }


def endpoint(*addresses, ready=True, **more):
    """An endpoint of a slice; more fields are hostname, zone, targetRef, nodeName."""
    conditions = {"ready": ready, "serving": ready, "terminating": False}
    return {"addresses": list(addresses), "conditions": conditions, **more}


def endpoint_slice(
    name,
    owner,
    endpoints=(),
    ports=(),
    namespace="default",
    *,
    family="IPv4",
    labels=None,
    triggered=None,
):
    """An EndpointSlice of the service `owner`."""
    listed = [{"name": n, "protocol": p, "port": number} for n, p, number in ports]
    notes = {"endpoints.kubernetes.io/last-change-trigger-time": triggered} if triggered else {}
    given = {"kubernetes.io/service-name": owner} | (labels or {})
    return {
        "metadata": meta(name, namespace, labels=given, annotations=notes),
        "addressType": family,
        "endpoints": list(endpoints),
        "ports": listed,
    }


def namespace(name, labels=None):
    return {"metadata": meta(name, labels=labels or {}), "status": {"phase": "Active"}}


def pod(name, namespace="default", addresses=(), labels=None, **more):
    ips = [{"ip": it} for it in addresses]
    status = {"phase": "Running", "podIP": addresses[0] if addresses else "", "podIPs": ips}
    return {"metadata": meta(name, namespace, labels=labels or {}, **more), "status": status}


def service_import(name, namespace="default", ips=(), ports=(), kind="ClusterSetIP"):
    listed = [{"name": n, "protocol": p, "port": number} for n, p, number in ports]
    return {
        "metadata": meta(name, namespace),
        "spec": {"ips": list(ips), "ports": listed, "type": kind},
    }


def status(code, reason, message, **details):
    """An object of kind Status, as errors and ERROR events have it."""
    found = {"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure"}
    return {**found, "message": message, "reason": reason, "details": details, "code": code}


def expired(message="too old resource version: 1 (2)"):
    return status(410, "Expired", message)


# -- the server


class Watch:
    """A connection that watches a resource."""

    def __init__(self, resource, selectors):
        self.resource = resource
        self.selectors = selectors
        self.queue: asyncio.Queue[object] = asyncio.Queue()
        self.is_silent = False

    def send(self, data):
        if not self.is_silent:
            self.queue.put_nowait(data)


class FakeAPI:
    """The state of a cluster, and the server of its API."""

    def __init__(self, *, watch_list=False, token=None, tls=None):
        self.watch_list = watch_list
        """Whether it sends lists as the first events of a watch (sendInitialEvents)."""
        self.token = token
        """The bearer token that requests must have, None for any."""
        self.tls = tls
        self.port = 0
        self.version = 1000
        self.objects: dict[str, dict[tuple[str, str], Any]] = {
            name: {} for name, _, _ in PATHS.values()
        }
        self.events: dict[str, list[tuple[int, str, object]]] = {
            name: [] for name, _, _ in PATHS.values()
        }
        self.oldest = 0
        """Watches and pages from earlier versions get 410."""
        self.watches = []
        self.requests = []
        """(path, query, headers) of all requests."""
        self.faults = []
        """(predicate of path and query, fault) for the next request that it selects."""
        self.forbidden = set()
        """Resources for which requests get 403."""
        self.largest_page = 10**9
        self.connections = 0
        self._tasks = set()
        self._changed = asyncio.Condition()

    # The cluster

    def put(self, resource, content):
        """Add or replace an object, and send the event; return its resource version."""
        place = content["metadata"]
        key = place.get("namespace", ""), place["name"]
        kind = "MODIFIED" if key in self.objects[resource] else "ADDED"
        self.version += 1
        stored = {**content, "metadata": {**place, "resourceVersion": str(self.version)}}
        self.objects[resource][key] = stored
        self._happen(resource, kind, stored)
        return self.version

    def delete(self, resource, namespace, name):
        """Remove an object, and send the event."""
        found = self.objects[resource].pop((namespace, name))
        self.version += 1
        place = {**found["metadata"], "resourceVersion": str(self.version)}
        self._happen(resource, "DELETED", {**found, "metadata": place})

    def _happen(self, resource, kind, content):
        self.events[resource].append((self.version, kind, content))
        self.emit(resource, kind, content)

    def compact(self):
        """Forget all events and pages so far, as a server does after minutes."""
        self.version += 1
        self.oldest = self.version
        for events in self.events.values():
            events.clear()

    # The watches

    def emit(self, resource, kind, content):
        """Send an event to the watches of a resource, whatever the state of the cluster is."""
        for watch in self.watches:
            if watch.resource == resource and selects(watch.selectors, content):
                watch.send(event(resource, kind, content))

    def send(self, resource, data):
        """Send bytes, or END or CUT, to the watches of a resource."""
        for watch in self.watches:
            if watch.resource == resource:
                watch.send(data)

    def bookmark(self, resource):
        """Send a bookmark with the current version."""
        self.emit(resource, "BOOKMARK", {"metadata": {"resourceVersion": str(self.version)}})

    def end_watches(self, how=END):
        for watch in self.watches:
            watch.send(how)

    def silence(self):
        """Send nothing more over the present connections, which stay open."""
        for watch in self.watches:
            watch.is_silent = True

    def end_silently(self):
        """End the silent connections as the server does at its stop."""
        for watch in self.watches:
            watch.queue.put_nowait(END)

    def count_watches(self, resource):
        return sum(it.resource == resource and not it.is_silent for it in self.watches)

    def hold(self, resource, fault):
        """Let the next watch of a resource begin with these bytes, and send nothing more."""
        self.fail((fault,), resource, watch=True)

    async def watched(self, *resources, count=1):
        """Wait until each resource has so many watches that get events."""
        async with self._changed:
            await self._changed.wait_for(
                lambda: all(self.count_watches(it) >= count for it in resources)
            )

    async def requested(self, predicate):
        """Wait until the list of requests fulfils a condition."""
        async with self._changed:
            await self._changed.wait_for(lambda: predicate(self.requests))

    # Faults

    def fail(self, fault, resource="", *, watch=None, page=None):
        """Let the next request fail that is for this resource.

        `fault` is the status and headers and content, or bytes to send instead of a response, or
        CUT. `watch` and `page` select watches, and further pages of lists.
        """

        def is_selected(path, query):
            return (
                resource in path
                and (watch is None or watch == ("watch" in query))
                and (page is None or page == ("continue" in query))
            )

        self.faults.append((is_selected, fault))

    # HTTP

    @property
    def url(self):
        return f"http{'' if self.tls is None else 's'}://127.0.0.1:{self.port}"

    async def start(self, port=0):
        # A client that connects again and again to a port of the ephemeral range reaches itself.
        self.port = port or free_port()
        self._server = await asyncio.start_server(
            self._accept, "127.0.0.1", self.port, ssl=self.tls
        )

    async def stop(self):
        """Stop at once: connections are cut. `start` with the same port continues."""
        self._server.close()
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _accept(self, reader, writer):
        self.connections += 1
        task = asyncio.current_task()
        self._tasks.add(task)
        connection = _Connection(reader, writer)
        try:
            while await self._handle(connection):
                connection.http.start_next_cycle()
        except (OSError, h11.RemoteProtocolError, asyncio.CancelledError):
            pass
        finally:
            self._tasks.discard(task)
            writer.transport.abort()

    async def _handle(self, connection):
        """Answer one request; return whether the connection may serve another one."""
        request = await connection.next_request()
        if request is None:
            return False
        parts = urlsplit(request.target.decode())
        query = {name: values[-1] for name, values in parse_qs(parts.query).items()}
        headers = {name.decode(): value.decode() for name, value in request.headers}
        self.requests.append((parts.path, query, headers))
        await self._notify()
        fault = self._fault(parts.path, query) or self._refusal(parts.path, headers)
        if fault is not None:
            return await self._misbehave(connection, fault)
        resource, kind, api_version = PATHS[parts.path]
        if "watch" in query:
            return await self._watch(connection, resource, query)
        await self._list(connection, resource, query, kind, api_version)
        return True

    async def _notify(self):
        async with self._changed:
            self._changed.notify_all()

    def _fault(self, path, query):
        for index, (is_selected, fault) in enumerate(self.faults):
            if is_selected(path, query):
                del self.faults[index]
                return fault
        return None

    def _refusal(self, path, headers):
        if path not in PATHS:
            return 404, [], "404 page not found\n"
        if self.token is not None and headers.get("authorization") != f"Bearer {self.token}":
            return 401, [], status(401, "Unauthorized", "Unauthorized")
        name, _, version = PATHS[path]
        if name in self.forbidden:
            group = version.rpartition("/")[0]
            account = 'User "system:serviceaccount:kube-system:corepy"'
            message = f'{name} is forbidden: {account} cannot list resource "{name}" in API group "{group}" at the cluster scope'
            return 403, [], status(403, "Forbidden", message, kind=name)
        return None

    async def _misbehave(self, connection, fault):
        if fault is CUT:
            return False
        if isinstance(fault, bytes):
            connection.writer.write(fault)
            await connection.writer.drain()
            return False
        if len(fault) == 1:
            connection.writer.write(fault[0])
            await connection.reader.read()
            return False
        code, headers, content = fault
        text = content if isinstance(content, str) else json.dumps(content)
        await connection.respond(code, text.encode(), headers)
        return True

    async def _list(self, connection, resource, query, kind, api_version):
        objects = [it for it in self.objects[resource].values() if selects(query, it)]
        version, start = self.version, 0
        if "continue" in query:
            version, start = json.loads(query["continue"])
            if version < self.oldest:
                message = "The provided continue parameter is too old to display a consistent list result."
                await connection.respond(410, json.dumps(expired(message)).encode())
                return
        limit = min(int(query.get("limit", 10**9)), self.largest_page)
        rest = len(objects) - start - limit
        place: dict[str, object] = {"resourceVersion": str(version)}
        if rest > 0 and "limit" in query:
            place |= {"continue": json.dumps([version, start + limit]), "remainingItemCount": rest}
            objects = objects[start : start + limit]
        else:
            objects = objects[start:]
        document = {
            "kind": f"{kind}List",
            "apiVersion": api_version,
            "metadata": place,
            "items": objects,
        }
        if (
            resource == "serviceimports"
        ):  # custom resources have their members in alphabetical order
            document = dict(sorted(document.items()))
        await connection.respond(200, json.dumps(document, separators=(",", ":")).encode() + b"\n")

    async def _watch(self, connection, resource, query):
        version = int(query.get("resourceVersion") or 0)
        watch = Watch(resource, query)
        if query.get("sendInitialEvents") == "true":
            if not self.watch_list:
                message = "sendInitialEvents: Forbidden: sendInitialEvents is forbidden for watch unless the WatchList feature gate is enabled"
                content = status(
                    422, "Invalid", f'ListOptions.meta.k8s.io "" is invalid: {message}'
                )
                await connection.respond(422, json.dumps(content).encode())
                return True
            for it in self.objects[resource].values():
                if selects(query, it):
                    watch.send(event(resource, "ADDED", it))
            notes = {"k8s.io/initial-events-end": "true"}
            place = {"resourceVersion": str(self.version), "annotations": notes}
            watch.send(event(resource, "BOOKMARK", {"metadata": place}))
        elif version < self.oldest:
            message = f"too old resource version: {version} ({self.oldest})"
            watch.send(event(resource, "ERROR", expired(message)))
            watch.send(END)
        else:
            for at, kind, content in self.events[resource]:
                if at > version and selects(query, content):
                    watch.send(event(resource, kind, content))
        self.watches.append(watch)
        await connection.begin(200)
        try:
            await self._notify()
            return await self._stream(connection, watch)
        finally:
            self.watches.remove(watch)

    async def _stream(self, connection, watch):
        gone = asyncio.ensure_future(connection.reader.read(1))
        gone.add_done_callback(lambda _: watch.queue.put_nowait(CUT))
        try:
            while (data := await watch.queue.get()) is not CUT:
                if data is END:
                    await connection.end()
                    break
                await connection.data(data)
        finally:
            gone.cancel()
        return False


def event(resource, kind, content):
    """A line of a watch."""
    api_kind, version = next(it[1:] for it in PATHS.values() if it[0] == resource)
    typed = content if "kind" in content else {"kind": api_kind, "apiVersion": version, **content}
    return json.dumps({"type": kind, "object": typed}, separators=(",", ":")).encode() + b"\n"


def selects(query, content):
    """Whether selectors of the kinds `a=b`, `a!=b`, `a` and `a in (b,c)` select an object."""
    labels = content.get("metadata", {}).get("labels", {})
    if "kind" in content and content["kind"] == "Status":
        return True
    phase = (
        {"status.phase": content.get("status", {}).get("phase", "")} if "status" in content else {}
    )
    return all(_selects(it, labels) for it in _split(query.get("labelSelector", ""))) and all(
        _selects(it, phase) for it in _split(query.get("fieldSelector", ""))
    )


def _split(selector):
    depth, part = 0, ""
    for char in selector + ",":
        depth += {"(": 1, ")": -1}.get(char, 0)
        if char == "," and not depth:
            if part:
                yield part.strip()
            part = ""
        else:
            part += char


def _selects(part, labels):
    if " in (" in part:
        name, _, values = part.partition(" in (")
        return labels.get(name) in [it.strip() for it in values.rstrip(")").split(",")]
    if "!=" in part:
        name, _, value = part.partition("!=")
        return labels.get(name) != value
    name, equals, value = part.replace("==", "=").partition("=")
    return labels.get(name) == value if equals else name in labels


class _Connection:
    def __init__(self, reader, writer):
        self.reader = reader
        self.writer = writer
        self.http = h11.Connection(h11.SERVER)

    async def next_request(self):
        while True:
            found = self.http.next_event()
            if found is h11.NEED_DATA:
                data = await self.reader.read(65536)
                if not data:
                    return None
                self.http.receive_data(data)
            elif isinstance(found, h11.Request):
                while not isinstance(self.http.next_event(), h11.EndOfMessage):
                    self.http.receive_data(await self.reader.read(65536))
                return found
            else:
                return None

    async def _send(self, *events):
        self.writer.write(b"".join(self.http.send(it) or b"" for it in events))
        await self.writer.drain()

    async def begin(self, code, headers=()):
        fields = [("Content-Type", "application/json"), *headers]
        await self._send(h11.Response(status_code=code, headers=fields))

    async def data(self, data):
        await self._send(h11.Data(data=data))

    async def end(self):
        await self._send(h11.EndOfMessage())

    async def respond(self, code, content, headers=()):
        await self.begin(code, headers)
        for at in range(0, len(content), 32768):
            await self.data(content[at : at + 32768])
        await self.end()


@asynccontextmanager
async def serving(api, port=0):
    """Serve in the running event loop."""
    await api.start(port)
    try:
        yield api
    finally:
        await api.stop()


class ThreadedAPI:
    """A `FakeAPI` in a thread of its own: attributes are read, and methods called, in its loop."""

    def __init__(self, **options):
        self._options = options
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)

    def __enter__(self):
        self._thread.start()
        self._api = self._call(self._start)
        return self

    async def _start(self):
        api = FakeAPI(**self._options)
        await api.start()
        return api

    def _call(self, function, *args, **options):
        async def run():
            found = function(*args, **options)
            return await found if asyncio.iscoroutine(found) else found

        return asyncio.run_coroutine_threadsafe(run(), self._loop).result()

    def __getattr__(self, name):
        found = getattr(self._api, name)
        if not callable(found):
            return found
        return lambda *args, **options: self._call(found, *args, **options)

    def __exit__(self, *_):
        with suppress(Exception):
            self._call(self._api.stop)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()
