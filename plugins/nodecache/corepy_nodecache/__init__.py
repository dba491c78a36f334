"""nodecache: sets up the interface, addresses and packet filter rules of a node-local DNS cache.

Importing this package imports neither pyroute2 nor python-iptables, so `corepy -check` needs
neither.
"""

from corepy_nodecache.setup import setup as setup

api_version = 1
acts_once = True
