"""`python -m setmatch` is the command line, also under torchrun."""

import sys

from setmatch.cli import main

sys.exit(main())
