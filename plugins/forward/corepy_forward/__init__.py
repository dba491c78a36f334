"""forward: forwards queries to other name servers (see ../README.md).

The modules in the order in which a query passes through them:

* `handler` is the handler in the chain. `clients` matches a query, and joins the exchange for the
  same question or starts one. `limits` bounds the queries that wait.
* `pool` has the upstreams of one line and the exchanges in flight to them.
* `exchange` asks one upstream after the other until it gets a usable reply; its base classes are
  `salvage`, for replies that are not final, and `asking`, which sends the attempts.
* `attempt` is one query in flight, and the interfaces between the modules below and those above.
* `forms` builds queries, and tracks which forms an upstream supports. `forgery` detects forged
  replies.
* `upstream` tracks the queries in flight to one server and its response times. `failures` detects
  late replies, probes the server, and describes failures.
* `udp`, `streams` (TCP and TLS) and `doh` are the sockets.

The modules that read the Corefile: `setup` parses a line, `settings` its options, `targets` its
upstreams. `resolve` reads files and resolves host names. `usable` selects the upstreams that this
machine can use, also while the server runs. `metrics` defines the metrics.
"""

from corepy_forward.setup import setup as setup

api_version = 1
