"""The client side of TLS for the self-check of encrypted listeners (`corepy.net.tls_probe`)."""

from corepy.net.tls_probe import answers as answers
