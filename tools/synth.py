"""Make a synthetic driving log: the same as ``fusionseg synth``."""

import sys

from fusionseg.cli import main

if __name__ == "__main__":
    sys.exit(main(["synth", *sys.argv[1:]]))
