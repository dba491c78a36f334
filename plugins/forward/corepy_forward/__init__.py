"""forward: hands queries to other name servers (see ../README.md).

How a query passes through, top down: `handler` matches it and joins the exchange for the same
question, or starts one; `exchange` asks one upstream after the other until a reply counts;
`upstream` knows what is in flight to one server and how it has been doing, and sends through `udp`
or `stream`; `health` probes. `setup`, `settings`, `targets` read the Corefile.
"""

from corepy_forward.setup import setup as setup

api_version = 1
