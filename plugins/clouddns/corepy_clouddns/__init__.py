"""clouddns: answers from zones that are copied from Google Cloud DNS."""

from corepy_clouddns.setup import setup as setup

api_version = 1
