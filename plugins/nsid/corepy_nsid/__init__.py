"""nsid: identifies the answering server to clients that request it."""

from corepy_nsid.setup import setup as setup

api_version = 1
