"""Sockets: opening them, datagrams in batches, framed messages over streams.

This package does not interpret DNS messages.
"""
