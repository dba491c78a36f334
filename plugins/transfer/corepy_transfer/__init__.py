"""transfer: sends zones to secondary servers, and notifies them of changes."""

from corepy_transfer.setup import setup as setup

api_version = 1
