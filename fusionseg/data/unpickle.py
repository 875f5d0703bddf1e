"""Read a pickled pandas DataFrame without trusting it and without pandas.

Three walls. The size is bounded while unpacking. Then the opcodes are scanned before anything runs: only plain data
and calls of the exact names in ``ALLOWED`` pass. Then those names are bound to small inert classes of this module,
never to pandas or NumPy functions; arrays are built from the recorded bytes afterwards, shape and dtype checked.
Files of old pandas (``BlockManager`` state with key '0.14.1') and of pandas 1 to 3 (``_unpickle_block``) both read.
"""

import io
import math
import pickle
import pickletools
import re
import zlib
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fusionseg.data.files import read_bytes
from fusionseg.data.log import FrameError

MAX_UNPACKED_BYTES = 512 * 2**20
MAX_RATIO = 200
MAX_OPCODES = 1_000_000
SMALL_BYTES = 2**20
"""Below this unpacked size the compression ratio says nothing: a frame of one class packs very well."""


class _Inert:
    """Stands for an allowed name. It has no dict, so a hostile file can neither set attributes nor replace methods."""

    __slots__ = ("args", "state")

    def __init__(self, *args: Any) -> None:
        self.args = args
        self.state: Any = None

    def __setstate__(self, state: Any) -> None:
        self.state = state


class _Frame(_Inert):
    __slots__ = ()


class _Manager(_Inert):
    __slots__ = ()


class _Block(_Inert):
    __slots__ = ()


class _Index(_Inert):
    __slots__ = ()


class _IndexKind(_Inert):
    __slots__ = ()


class _StringArray(_Inert):
    __slots__ = ()


class _Array(_Inert):
    """``_reconstruct(ndarray, (0,), b'b')`` and then the state (version, shape, dtype, fortran order, content)."""

    __slots__ = ()


class _ArrayType(_Inert):
    __slots__ = ()


class _FromBuffer(_Inert):
    """``_frombuffer(content, dtype, shape, order)`` of pickle protocol 5."""

    __slots__ = ()


class _Dtype(_Inert):
    __slots__ = ()


class _Scalar(_Inert):
    __slots__ = ()


class _Latin1:
    """``_codecs.encode(text, 'latin1')``, how protocol 2 writes bytes; nothing else is encoded."""

    __slots__ = ()

    def __new__(cls, text: str, encoding: str) -> bytes:  # type: ignore[misc]
        if encoding != "latin1" or not isinstance(text, str):
            raise pickle.UnpicklingError(f"encoding {encoding!r} is not allowed")
        return text.encode("latin1")

    def __setstate__(self, state: Any) -> None:
        raise pickle.UnpicklingError("state for a function is not allowed")


ALLOWED: dict[tuple[str, str], Any] = {
    ("pandas", "DataFrame"): _Frame,
    ("pandas.core.frame", "DataFrame"): _Frame,
    ("pandas.core.internals.managers", "BlockManager"): _Manager,
    ("pandas._libs.internals", "_unpickle_block"): _Block,
    ("pandas.core.indexes.base", "_new_Index"): _Index,
    ("pandas", "Index"): _IndexKind,
    ("pandas.core.indexes.base", "Index"): _IndexKind,
    ("pandas", "RangeIndex"): _IndexKind,
    ("pandas.core.indexes.range", "RangeIndex"): _IndexKind,
    # pandas 3 keeps column names in a string array: these three hold the names and nothing else.
    ("pandas._libs.arrays", "__pyx_unpickle_NDArrayBacked"): _StringArray,
    ("pandas.arrays", "StringArray"): _IndexKind,
    ("pandas", "StringDtype"): _IndexKind,
    ("numpy", "ndarray"): _ArrayType,
    ("numpy", "dtype"): _Dtype,
    ("numpy.core.multiarray", "_reconstruct"): _Array,
    ("numpy._core.multiarray", "_reconstruct"): _Array,
    ("numpy.core.multiarray", "scalar"): _Scalar,
    ("numpy._core.multiarray", "scalar"): _Scalar,
    ("numpy.core.numeric", "_frombuffer"): _FromBuffer,
    ("numpy._core.numeric", "_frombuffer"): _FromBuffer,
    ("builtins", "slice"): slice,
    ("__builtin__", "slice"): slice,
    ("_codecs", "encode"): _Latin1,
}
REFUSED_OPCODES = {"EXT1", "EXT2", "EXT4", "PERSID", "BINPERSID", "INST", "OBJ", "NEWOBJ_EX", "NEXT_BUFFER"}
DTYPE = re.compile(r"[iuf][248]|[biu]1")


class _Unpickler(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        try:
            return ALLOWED[module, name]
        except KeyError:
            raise pickle.UnpicklingError(f"it names {module}.{name}, which no table of numbers needs") from None

    def persistent_load(self, pid: Any) -> Any:
        raise pickle.UnpicklingError("it holds a persistent id")


def _unpack(path: Path, content: bytes) -> bytes:
    """The bytes, gunzipped if they are gzip, within the limits on size and ratio."""
    if not content.startswith(b"\x1f\x8b"):
        if len(content) > MAX_UNPACKED_BYTES:
            raise FrameError(f"{path}: {len(content)} bytes is over the limit of {MAX_UNPACKED_BYTES}")
        return content
    limit = min(MAX_UNPACKED_BYTES, max(SMALL_BYTES, MAX_RATIO * len(content)))
    stream = zlib.decompressobj(wbits=31)
    try:
        unpacked = stream.decompress(content, limit + 1)
    except zlib.error as error:
        raise FrameError(f"{path}: not a valid gzip file ({error}); copy it again from the log") from error
    if len(unpacked) > limit:
        raise FrameError(
            f"{path}: unpacks to more than {limit} bytes from {len(content)}; "
            f"a sweep packs less than {MAX_RATIO} to 1, so this file is refused"
        )
    if not stream.eof:
        raise FrameError(f"{path}: gzip file is truncated; copy it again from the log")
    return unpacked


def _scan(path: Path, content: bytes) -> None:
    """Refuse, before anything runs, opcodes that data does not need and memo numbers that would reserve memory."""
    count = 0
    try:
        for opcode, argument, _ in pickletools.genops(content):
            count += 1
            if count > MAX_OPCODES:
                raise FrameError(f"{path}: over {MAX_OPCODES} pickle opcodes; this is no table of numbers")
            if opcode.name in REFUSED_OPCODES:
                raise FrameError(f"{path}: pickle opcode {opcode.name} is refused; expected a pickled DataFrame")
            if opcode.name == "GLOBAL":
                module, _, name = str(argument).partition(" ")
                if (module, name) not in ALLOWED:
                    raise FrameError(f"{path}: refused, it names {module}.{name}, which no table of numbers needs")
            if opcode.name in ("PUT", "LONG_BINPUT") and int(str(argument)) > count:
                raise FrameError(f"{path}: pickle memo number {argument} is out of order; the file is refused")
    except FrameError:
        raise
    except Exception as error:
        raise FrameError(f"{path}: not a complete pickle ({error}); copy it again from the log") from error


def _is_names(value: Any) -> bool:
    return isinstance(value, list) and all(isinstance(name, str) for name in value)


def _dtype(value: Any) -> np.dtype[Any]:
    if not isinstance(value, _Dtype) or not value.args or not isinstance(value.args[0], str):
        raise ValueError("an array has no plain dtype")
    code = value.args[0]
    order = value.state[1] if isinstance(value.state, tuple) and len(value.state) > 1 else "|"
    if not DTYPE.fullmatch(code) or order not in ("<", ">", "|", "="):
        raise ValueError(f"dtype {code!r} is not a plain number")
    return np.dtype(code if order == "|" else order + code)


def _numbers(value: Any) -> NDArray[Any]:
    """The array that a stand-in describes: number of bytes, shape and dtype must agree."""
    if isinstance(value, _FromBuffer):
        content, dtype, shape, order = value.args
        fortran = order == "F"
    elif isinstance(value, _Array) and isinstance(value.state, tuple) and len(value.state) == 5:
        _, shape, dtype, fortran, content = value.state
    else:
        raise ValueError(f"expected an array of numbers, found {type(value).__name__.strip('_')}")
    if not isinstance(content, bytes | bytearray):
        raise ValueError("an array of objects stands where numbers belong")
    kind = _dtype(dtype)
    if not isinstance(shape, tuple) or not 1 <= len(shape) <= 2 or not all(type(n) is int and n >= 0 for n in shape):
        raise ValueError(f"array shape {shape!r} is not (rows,) or (columns, rows)")
    if math.prod(shape) * kind.itemsize != len(content):
        raise ValueError(f"an array of shape {shape} and dtype {kind} has {len(content)} bytes")
    return np.frombuffer(bytes(content), kind).reshape(shape, order="F" if fortran else "C")


def _column_names(value: Any) -> list[str]:
    """The names in an Index of strings: an array of objects, or pandas 3's string array."""
    if isinstance(value, _Index) and len(value.args) == 2 and isinstance(value.args[1], dict):
        data = value.args[1].get("data")
        if isinstance(data, _StringArray) and isinstance(data.state, tuple):
            data = next((part for part in data.state if isinstance(part, _Array)), None)
        if isinstance(data, _Array) and isinstance(data.state, tuple) and _is_names(data.state[-1]):
            return list(data.state[-1])
    raise ValueError("the column names are not a list of strings")


def _positions(value: Any, count: int) -> list[int]:
    if isinstance(value, slice):
        if not all(part is None or type(part) is int for part in (value.start, value.stop, value.step)):
            raise ValueError("a block's place is not a slice of numbers")
        return list(range(*value.indices(count)))
    return [int(n) for n in _numbers(value)]


def _blocks(manager: Any) -> tuple[Any, list[tuple[Any, Any]]]:
    """The column index and (values, place) per block, of both layouts of BlockManager."""
    if not isinstance(manager, _Manager):
        raise ValueError("there is no BlockManager inside")
    if isinstance(manager.state, tuple) and manager.state and isinstance(manager.state[-1], dict):
        inner = manager.state[-1]["0.14.1"]
        return inner["axes"][0], [(block["values"], block["mgr_locs"]) for block in inner["blocks"]]
    blocks, axes = manager.args
    if not all(isinstance(block, _Block) for block in blocks):
        raise ValueError("a block is not a block")
    return axes[0], [(block.args[0], block.args[1]) for block in blocks]


def _columns(frame: Any) -> dict[str, NDArray[Any]]:
    if not isinstance(frame, _Frame) or not isinstance(frame.state, dict):
        raise ValueError("it holds no DataFrame")
    axis, blocks = _blocks(frame.state.get("_mgr", frame.state.get("_data")))
    names = _column_names(axis)
    found: dict[str, NDArray[Any]] = {}
    for values, place in blocks:
        table = np.atleast_2d(_numbers(values))
        positions = _positions(place, len(names))
        if len(positions) != len(table):
            raise ValueError(f"a block of {len(table)} columns has places for {len(positions)}")
        found.update((names[position], row) for position, row in zip(positions, table, strict=True))
    if len(found) != len(names) or len({len(column) for column in found.values()}) > 1:
        raise ValueError("its columns are not complete or differ in length")
    return {name: found[name] for name in names}


def read_dataframe(path: Path) -> dict[str, NDArray[Any]]:
    """The columns of a DataFrame of numbers in a pickle, plain or gzipped; the arrays are read-only.

    Raises:
        FrameError: missing, truncated, too large, anything but a DataFrame of numbers, or a pickle that names
            something a DataFrame does not need. Nothing that the file names is ever run.
    """
    content = _unpack(path, read_bytes(path))
    _scan(path, content)
    try:
        return _columns(_Unpickler(io.BytesIO(content)).load())
    except Exception as error:  # a hostile pickle can raise anything; whatever it was, the file is refused
        raise FrameError(f"{path}: refused as a pickled DataFrame: {error}") from error
