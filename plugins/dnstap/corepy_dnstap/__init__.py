"""dnstap: sends the messages of clients and upstreams to collectors, in dnstap's format."""

from corepy_dnstap.setup import setup as setup

api_version = 1
