"""no_aaaa: answers AAAA queries on the node, for clusters without IPv6."""

from corepy_no_aaaa.setup import setup as setup

api_version = 1
