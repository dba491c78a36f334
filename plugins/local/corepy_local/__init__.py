"""local: answers queries for localhost and for reverse zones that no server on the net has."""

from corepy_local.setup import setup as setup

api_version = 1
