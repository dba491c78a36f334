"""DNS messages: names, wire reading and patching, requests and replies.

Pure values and functions: no sockets, no clock, nothing of the rest of the project. `names` <
`edns` < `wire` < `rdata` < `compress` < `survey` < `reply` < `message` < `accept`: each imports
only modules to its left. Only `records` imports dnslib, when a plugin asks for its objects.
"""

from corepy.dns.accept import accept as accept
from corepy.dns.edns import Edns as Edns
from corepy.dns.errors import FormError as FormError
from corepy.dns.message import Request as Request
from corepy.dns.message import query as query
from corepy.dns.reply import Reply as Reply
from corepy.dns.reply import finish as finish
