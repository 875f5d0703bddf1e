"""Measure how fast models are: the same as ``fusionseg benchmark``."""

import sys

from fusionseg.cli import main

if __name__ == "__main__":
    sys.exit(main(["benchmark", *sys.argv[1:]]))
