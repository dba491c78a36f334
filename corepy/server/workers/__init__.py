"""Several processes that serve the same addresses, each with sockets of its own (SO_REUSEPORT).

In reading order: `group` is the interface that the server uses. `leader` drives the followers, one
`handle` each, with the messages of `protocol`. `follower` is the program of a follower, which sends
its counters as a `metrics_report`.
"""
