"""geoip: provides the location and the network of clients as metadata."""

from corepy_geoip.setup import setup as setup

api_version = 1
