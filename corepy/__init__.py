"""corepy: a DNS server that chains plugins.

The package is layered, and imports point one way: `corefile`, `dns` and `net` stand alone; `plugin`
is what a plugin author imports; `server` runs what the others describe; `cli` is the command.
"""
