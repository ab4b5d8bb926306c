"""`python -m dagy`."""

import sys

from dagy.cli.main import main

sys.exit(main())
