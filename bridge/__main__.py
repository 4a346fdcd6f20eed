"""`python -m bridge` is the command `claude-bridge`."""

import sys

from bridge.cli import main

sys.exit(main())
