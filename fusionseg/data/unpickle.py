"""Read a pickled pandas DataFrame without trusting it: exact names only, bounded size (see ``ALLOWED``)."""

import gzip
import io
import pickle
import zlib
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fusionseg.data.files import read_bytes
from fusionseg.data.log import FrameError

MAX_UNPACKED_BYTES = 512 * 2**20
MAX_RATIO = 200
