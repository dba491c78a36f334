"""Arguments of the commands that plugins bring; see `corepy.arguments`."""

from corepy.arguments import EXIT_USAGE as EXIT_USAGE
from corepy.arguments import Parser as Parser
