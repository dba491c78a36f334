"""DNS messages: names, reading and patching wire format, requests and replies.

This package contains only values and pure functions, without sockets or a clock, and imports
nothing else of the project. `context` < `names` < `edns` < `wire` < `rdata` < `compress` <
`survey` < `identity` < `reply` < `message` < `accept`: each module imports only modules to its
left. Only `records` imports dnslib, and only when a plugin uses dnslib's objects. The first query
with more records than a question and OPT imports `tsig`, the first signed one at a listener with
keys imports `tsig_mac`.
"""

from corepy.dns.accept import accept as accept
from corepy.dns.accept import form_error as form_error
from corepy.dns.context import UNROUTED as UNROUTED
from corepy.dns.context import RequestContext as RequestContext
from corepy.dns.edns import Edns as Edns
from corepy.dns.finishing import finish as finish
from corepy.dns.finishing import signed as signed
from corepy.dns.form_error import FormError as FormError
from corepy.dns.identity import ANONYMOUS as ANONYMOUS
from corepy.dns.identity import HTTPFacts as HTTPFacts
from corepy.dns.identity import Identity as Identity
from corepy.dns.identity import TLSFacts as TLSFacts
from corepy.dns.message import Request as Request
from corepy.dns.message import query as query
from corepy.dns.reply import Reply as Reply
