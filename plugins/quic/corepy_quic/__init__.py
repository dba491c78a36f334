"""quic: sets the limits of DNS over QUIC."""

from corepy_quic.setup import setup as setup

api_version = 1
