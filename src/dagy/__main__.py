"""`python -m dagy`."""

import sys

from dagy.cli.main import main

if __name__ == "__main__":  # a task process imports this module under another name
    sys.exit(main())
