"""ratelimit: limits the queries per second of each client.

`setup` parses the directive. `limiter` is the gate that decides about queries, with `rates` to
count those of each client and `networks` for exempt clients. `handler` is the handler in the chain.
"""

from corepy_ratelimit.setup import setup as setup

api_version = 1
before = ("local",)
