"""chaos: returns the version, the host name and the authors in the class CH."""

from corepy_chaos.setup import setup as setup

api_version = 1
