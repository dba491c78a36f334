"""alternate: asks other upstreams if a reply has one of the given rcodes."""

from corepy_alternate.setup import setup as setup

api_version = 1
before = ("fanout", "forward")
