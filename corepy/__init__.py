"""corepy: a DNS server that chains plugins.

Imports between the layers go one way: `corefile`, `dns` and `net` depend on no other layer,
`plugin` is the API for plugin authors, `server` runs the configured plugins, and `cli` is the
command.
"""
