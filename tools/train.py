"""Train a model: the same as ``fusionseg train`` (start it with torchrun for several processes)."""

import sys

from fusionseg.cli import main

if __name__ == "__main__":
    sys.exit(main(["train", *sys.argv[1:]]))
