"""rrl: limits the rate of equal responses to a network, and of its requests.

`setup` parses the directive. `accounts` has the balances. `category` finds the account of a
response. `gates` decide about replies that the packet cache repeats, `handler` about all others.
"""

from corepy_rrl.setup import setup as setup

api_version = 1
before = ("acl",)
