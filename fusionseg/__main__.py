"""``python -m fusionseg``: the same as the ``fusionseg`` command."""

import sys

from fusionseg.cli import main

if __name__ == "__main__":
    sys.exit(main())
