"""grpc: forwards queries to DNS servers over gRPC (see ../README.md).

`setup` parses the directive. `handler` has the exchanges in flight; each asks one `upstream` after
the other. `connection` is one HTTP/2 connection, `messages` the format of its calls, `policies`
choose the upstream to ask first.
"""

from corepy_grpc.setup import setup as setup

api_version = 1
