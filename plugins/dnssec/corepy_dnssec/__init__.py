"""dnssec: signs replies on the fly."""

from corepy_dnssec.setup import setup as setup

api_version = 1
