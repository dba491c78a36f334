"""loadbalance: changes the order of addresses from reply to reply."""

from corepy_loadbalance.setup import setup as setup

api_version = 1
