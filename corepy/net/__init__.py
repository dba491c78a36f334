"""Sockets: opening them, datagrams in batches, framed messages over streams. Nothing here knows
what a query means.
"""
