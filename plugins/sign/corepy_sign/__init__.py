"""sign: signs zone files."""

from corepy_sign.setup import setup as setup

api_version = 1
acts_once = True
