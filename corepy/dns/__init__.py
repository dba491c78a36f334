"""DNS messages: names, wire reading and patching, requests and replies.

Pure values and functions: no sockets, no clock, nothing of the rest of the project. `names` <
`edns` < `wire` < `rdata` < `compress` < `reply` < `message` < `accept`, each knowing only what
stands left of it; dnslib is imported by `records` alone, when somebody asks for its objects.
"""
