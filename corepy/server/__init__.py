"""The running server: from a parsed Corefile to sockets that answer.

`builder` makes a `Generation` of a Corefile without touching the world; `Server` holds the
listening endpoints and swaps generations under them.
"""
