"""QUIC for servers: connections of aioquic at a UDP socket, without DNS and HTTP.

`Demultiplexer` passes each datagram to its connection by the connection ID in it, and sends what
the connections have to send. aioquic contains the protocol (RFC 9000, RFC 9001, RFC 9002), and does
no I/O. Most modules here import it, so they are imported only by a server that uses QUIC;
`version_probe`, `identifiers` and `datagram_relay` do not.
"""
