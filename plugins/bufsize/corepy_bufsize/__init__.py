"""bufsize: limits how large replies over UDP are."""

from corepy_bufsize.setup import setup as setup

api_version = 1
