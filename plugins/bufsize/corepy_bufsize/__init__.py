"""bufsize: limits the size of replies over UDP."""

from corepy_bufsize.setup import setup as setup

api_version = 1
