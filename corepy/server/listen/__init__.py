"""Receives queries and sends their replies.

In reading order: `endpoint` is a listen address with its sockets, and `udp` and `tcp` are its
listeners. A listener looks a query up in the `packet_cache`. If it is not there, `pipeline` parses
the query, `router` selects the server block, and `chain_runner` runs the block's chain.
`query_timeout` ends a chain that takes too long.
"""
