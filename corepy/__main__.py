"""`python -m corepy` is the command `corepy`."""

import sys

from corepy.cli import main

sys.exit(main())
