"""Run the command `corepy` as `python -m corepy`."""

import sys

from corepy.cli import main

sys.exit(main())
