"""template: replies made from what a template says about the query."""

from corepy_template.setup import setup as setup

api_version = 1
