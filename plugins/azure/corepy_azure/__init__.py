"""azure: answers from zones that are copied from Azure DNS."""

from corepy_azure.setup import setup as setup

api_version = 1
