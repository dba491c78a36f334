"""The HTTP server of the endpoints /health, /ready, /metrics and /debug/pprof.

A listener belongs to an address, not to a plugin or a generation. A plugin that serves a path takes
a `Claim` on an address. All claims on one address share its socket, which is open as long as there
is a claim. A reload therefore never closes it: the new generation makes its claim before the old
one gives its claim up. A path is answered by the newest claim that serves it. When a claim is given
up (after a failed reload), the previous one answers again.

The server is for probes and scrapers, and limits the cost of untrusted clients: GET and HEAD, no
bodies, small heads, few connections, short timeouts. A message that is not HTTP closes its
connection and has no other effect.
"""

from corepy.http.listen_address import check_address as check_address
from corepy.http.listen_address import read_address as read_address
from corepy.http.listen_address import split_address as split_address
from corepy.http.listener import Claim as Claim
from corepy.http.listener import claim as claim
from corepy.http.listener import claim_unix as claim_unix
from corepy.http.messages import HTTPRequest as HTTPRequest
from corepy.http.messages import HTTPResponse as HTTPResponse
from corepy.http.unix_socket import UnixAddress as UnixAddress
from corepy.http.unix_socket import check_unix_path as check_unix_path
