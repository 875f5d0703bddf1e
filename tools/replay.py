"""Label every frame of a log in order: the same as ``fusionseg replay``."""

import sys

from fusionseg.cli import main

if __name__ == "__main__":
    sys.exit(main(["replay", *sys.argv[1:]]))
