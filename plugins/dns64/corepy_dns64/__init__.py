"""dns64: makes AAAA records from A records, for networks with NAT64."""

from corepy_dns64.setup import setup as setup

api_version = 1
