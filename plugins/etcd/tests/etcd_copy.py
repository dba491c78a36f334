"""Handlers of *etcd* with a copy that no etcd feeds, for tests."""

import asyncio
import json
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

from corepy.plugin import Fallthrough, ZoneMatcher
from corepy.testing import Recorder, link, make_request
from corepy_etcd.handler import Etcd
from corepy_etcd.source import Settings
from corepy_etcd.store import Store

PREFIX = "/skydns/"


def key_of(name, prefix=PREFIX):
    """The key of a name."""
    return (prefix + "/".join(reversed(name.rstrip(".").split(".")))).encode()


def fill(store, services, lease=0):
    """Put (name, members) pairs into a store."""
    for name, members in services:
        store.put(key_of(name), json.dumps(members).encode(), lease)


def etcd_with(services, zones=("skydns.test.",), fallthrough=(), **options):
    """A handler whose copy has services."""
    handler = Etcd(Settings(()), ZoneMatcher(zones), Fallthrough(fallthrough), **options)
    store = Store(PREFIX, lambda key: None)
    fill(store, services)
    state: dict[str, Any] = {"is_synced": True, "serial": 7, "is_forgetting": False}
    patterns: list[bytes] = []
    state |= {"patterns": patterns, "note_pattern": patterns.append, "watcher": None}
    vars(handler)["source"] = SimpleNamespace(store=store, **state)
    return handler


def ask(handler, name, qtype="A", below=None, router=None, **question):
    """The reply of a handler, above `below`; `router` answers look-ups through the server."""
    request = make_request(name, qtype, **question)
    request.context = replace(request.context, router=router)
    top = link([handler, below or Recorder()])
    return asyncio.run(top.serve_dns(request))


class Upstream:
    """The rest of the server: replies by name and type, REFUSED for others."""

    def __init__(self, **replies):
        self.asked = []
        self._replies = replies

    async def lookup(self, request):
        """Answer a look-up."""
        self.asked.append((request.name, request.type))
        answer = self._replies.get(f"{request.name} {request.type}")
        if answer is None:
            return request.error(5)
        return answer(request)


def sections(reply):
    """The records of a reply as text: (answer, authority, additional)."""
    record = reply.record
    parts = (record.rr, record.auth, record.ar)
    return tuple([" ".join(str(rr).split()) for rr in part] for part in parts)
