"""Finds the installed plugins, loads them, and orders them in the chain.

In reading order: `registry` finds and loads plugins, `extras` names the packages that they miss,
`order` arranges their directives, `orderfile` reads the operator's rules for the order, and
`order_table` lists the result.
"""
