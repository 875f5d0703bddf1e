"""Distil a teacher into a student and compare it with its control: the same as ``fusionseg distill``."""

import sys

from fusionseg.cli import main

if __name__ == "__main__":
    sys.exit(main(["distill", *sys.argv[1:]]))
