"""The running server: builds a configuration from a Corefile and answers queries by it.

`builder` makes a `Generation` from a Corefile without side effects on the host. `Server` holds the
listening endpoints and replaces the generation that answers at them.
"""
