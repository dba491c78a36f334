"""template: generates replies from templates that use the query's name, type and other fields."""

from corepy_template.setup import setup as setup

api_version = 1
