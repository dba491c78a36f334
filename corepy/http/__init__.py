"""The endpoints that are spoken to over HTTP: /health, /ready, /metrics.

A listener belongs to an address, not to a plugin or a generation. Who wants something to be served
there takes a `Claim`; all claims to one address share its socket, which is open for as long as
anybody has one. So a reload, during which the new generation claims what the old one still has,
never closes it. A path is answered by the newest claim that serves it; a claim that is given up (a
reload that failed) leaves it to the one before.

The server is for probes and scrapers, and bounded in all that a stranger could make it spend: GET
and HEAD, no bodies, small heads, few connections, little time. A message that is not HTTP costs the
connection it came on and nothing else.
"""

from corepy.http.address import read_address as read_address
from corepy.http.address import split_address as split_address
from corepy.http.listener import Claim as Claim
from corepy.http.listener import claim as claim
from corepy.http.messages import Request as Request
from corepy.http.messages import Response as Response
