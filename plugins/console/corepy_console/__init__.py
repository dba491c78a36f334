"""console: a page in the browser that shows what the running server does."""

from corepy_console.setup import setup as setup

api_version = 1
acts_once = True
