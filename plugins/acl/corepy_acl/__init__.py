"""acl: allows or denies queries by the client's address and the query type."""

from corepy_acl.setup import setup as setup

api_version = 1
