"""auto: answers from the zone files of a folder, which may come and go."""

from corepy_auto.setup import setup as setup

api_version = 1
