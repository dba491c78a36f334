"""fanout: asks several upstreams at the same time, and returns the first good reply.

`setup` parses the directive, `settings` holds its options. `selection` chooses the upstreams for a
query, and `handler` asks them.
"""

from corepy_fanout.setup import setup as setup

api_version = 1
before = ("forward",)
