"""`python -m dagy`."""

import sys

from dagy.cli.main import main

if __name__ == "__main__":
    sys.exit(main())
