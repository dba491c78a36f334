"""nodecache: the node's interface, addresses and packet filter rules for a local DNS cache.

Importing the package imports neither pyroute2 nor python-iptables: `corepy -check` needs none.
"""

from corepy_nodecache.setup import setup as setup

api_version = 1
acts_once = True
