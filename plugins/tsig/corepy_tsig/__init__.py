"""tsig: verifies the signatures of queries, signs the replies, and has the keys for both."""

from corepy_tsig.setup import setup as setup

api_version = 1
