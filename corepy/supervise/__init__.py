"""The supervisor (`corepy -supervise`), a parent that keeps the node's DNS running.

It holds the listening sockets and starts the server as its child, the *worker*. It replaces the
worker when the worker exits, when it stops answering, and on request (a new version). Meanwhile
queries wait in the sockets' queues. While no worker can be started it relays queries to a fallback
name server.

Rules for changes: the supervisor must be the last process on the node to fail. Therefore it has no
plugins, no asyncio, no third-party package, few modules of the standard library, and no data that
grows. It implements systemd's protocols (`corepy.net.inherited`), so a worker runs the same way
under the supervisor and under systemd.
"""
