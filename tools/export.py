"""Write a model for another runtime: the same as ``fusionseg export``."""

import sys

from fusionseg.cli import main

if __name__ == "__main__":
    sys.exit(main(["export", *sys.argv[1:]]))
