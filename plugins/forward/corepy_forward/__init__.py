"""forward: forwards queries to other name servers (see ../README.md).

The modules in the order in which a query passes through them: `handler` matches a query and joins
the exchange for the same question, or starts one. `exchange` asks one upstream after the other
until it gets a usable reply. `upstream` tracks the queries in flight to one server and its response
times, and sends through `udp` or `stream`. `health` probes upstreams. `setup`, `settings` and
`targets` read the Corefile.
"""

from corepy_forward.setup import setup as setup

api_version = 1
