"""https3: sets the limits of DNS over HTTP/3."""

from corepy_https3.setup import setup as setup

api_version = 1
