"""Command-line parser for plugins' commands; see `corepy.flags`."""

from corepy.flags import EXIT_USAGE as EXIT_USAGE
from corepy.flags import Parser as Parser
