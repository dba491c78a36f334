"""Receives queries and sends their replies.

In reading order: `endpoint` is a listen address with its sockets, and a `query_listener` for each
of them. `transports` is the table of schemes, each a `transport` with its classes of listeners:
`plain_dns` has `udp` and `tcp`, which is a `stream_listener`. A listener looks a query up in the
`packet_cache`. If it is not there, `pipeline` parses the query, `router` selects the server block,
and `chain_runner` runs the block's chain; a reply that arrives later has a `waiting_query`, a chain
that is a coroutine a `chain_task`. `query_timeout` ends a chain that takes too long.
`status_query` is the query of the self-check.
"""
