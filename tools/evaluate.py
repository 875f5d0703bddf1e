"""Score a model on labelled data: the same as ``fusionseg evaluate``."""

import sys

from fusionseg.cli import main

if __name__ == "__main__":
    sys.exit(main(["evaluate", *sys.argv[1:]]))
