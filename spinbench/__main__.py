"""`python -m spinbench`: the same as the `spinbench` command."""

import sys

from spinbench.cli.main import main

sys.exit(main())
