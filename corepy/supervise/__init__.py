"""A parent that keeps the node's DNS answering while the server itself comes and goes: `corepy
-supervise`.

It holds the listening sockets, starts the server as its child (the *worker*), and replaces it when
it ends, when it stops answering, or when asked to (a new version). Queries wait in the sockets'
queues meanwhile. When no worker can be started it relays queries to a fallback name server.

Rules for changing it: it must be the last thing on the node to fail. So no plugins, no asyncio, no
third-party package, few modules of the standard library, and nothing that grows; it speaks
systemd's protocols (`corepy.net.inherited`), so the worker does not know which of the two it is run
by.
"""
