"""Pickles: what DataFrames need reads, everything else is refused before it runs."""

import copyreg
import gzip
import os
import pickle
import struct
from pathlib import Path

import numpy as np
import pytest

from fusionseg.data import unpickle
from fusionseg.data.log import FrameError
from fusionseg.data.unpickle import read_dataframe

pd = pytest.importorskip("pandas")

TABLE = {"x": np.array([0.5, -1.0, 2.25]), "i": np.array([3.0, 4.0, 5.0]), "d": np.array([0, 1, 0])}


class Call:
    """Pickles as a call of ``function(*args)``."""

    def __init__(self, function, *args):
        self.call = function, args

    def __reduce__(self):
        return self.call


def check(path: Path) -> None:
    columns = read_dataframe(path)
    assert list(columns) == ["x", "i", "d"]
    for name, values in TABLE.items():
        np.testing.assert_array_equal(columns[name], values)
        assert columns[name].dtype == values.dtype


@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
@pytest.mark.parametrize("names", ["str", "object"])
@pytest.mark.parametrize("zipped", [False, True])
def test_reads_what_pandas_writes(tmp_path, protocol, names, zipped):
    frame = pd.DataFrame(TABLE)
    frame.columns = pd.Index(list(TABLE), dtype=names)
    content = pickle.dumps(frame, protocol=protocol)
    path = tmp_path / "00.pkl"
    path.write_bytes(gzip.compress(content) if zipped else content)
    check(path)


def test_reads_the_layout_of_old_pandas(tmp_path):
    """BlockManager with a '0.14.1' state, names as pandas 0.25 wrote them, protocol 3."""
    names = np.array(list(TABLE), dtype=object)
    out = b"\x80\x03cpandas.core.frame\nDataFrame\n)\x81}X\x05\x00\x00\x00_data"
    out += b"cpandas.core.internals.managers\nBlockManager\n)\x81("

    def inner(value):
        return pickle.dumps(value, protocol=3)[2:-1]

    # every inner pickle numbers its memo from 0: later ones overwrite earlier ones, which nothing refers to any more
    index = b"cpandas.core.indexes.base\n_new_Index\ncpandas.core.indexes.base\nIndex\n}(X\x04\x00\x00\x00data"
    index += inner(names) + b"X\x04\x00\x00\x00nameNu\x86R"
    floats, ints = np.array([TABLE["x"], TABLE["i"]]), TABLE["d"][None]
    state = b"}X\x06\x00\x00\x000.14.1}(X\x04\x00\x00\x00axes](" + index + b"eX\x06\x00\x00\x00blocks]("
    for values, start, stop in ((floats, 0, 2), (ints, 2, 3)):
        state += b"}(X\x06\x00\x00\x00values" + inner(values) + b"X\x08\x00\x00\x00mgr_locs"
        state += b"cbuiltins\nslice\n" + bytes((75, start, 75, stop, 75, 1)) + b"\x87Ru"
    state += b"eus"
    out += b"]]]" + state + b"tbsb."
    path = tmp_path / "00.pkl"
    path.write_bytes(out)
    check(path)


def test_reads_the_real_files_as_pandas_does(shared_data):
    """Frame 00 is an original of PandaSet, 30 was written again by a later pandas."""
    for name in ("lidar/00.pkl.gz", "lidar/30.pkl.gz", "annotations/semseg/30.pkl.gz"):
        path = shared_data / "pandaset" / "002" / name
        expected = pd.read_pickle(path)
        columns = read_dataframe(path)
        assert list(columns) == list(expected.columns)
        for column in expected:
            np.testing.assert_array_equal(columns[column], expected[column].to_numpy())


def hostile() -> dict[str, bytes]:
    numpy_exec = b"\x80\x03cnumpy.distutils.exec_command\nexec_command\nX\x04\x00\x00\x00true\x85R."
    return {
        "os.system": pickle.dumps(Call(os.system, "touch ran")),
        "eval": pickle.dumps(Call(eval, "open('ran', 'w')")),
        "protocol 0": pickle.dumps(Call(os.system, "touch ran"), protocol=0),
        "inst": b"(S'touch ran'\nios\nsystem\n.",
        "obj": b"(cos\nsystem\nX\x09\x00\x00\x00touch rano.",
        "numpy exec_command": numpy_exec,
        "prefix pandas": b"\x80\x03cpandas.io.common\nget_handle\nX\x03\x00\x00\x00ran\x85R.",
        "dotted name": b"\x80\x04\x8c\x06pandas\x8c\x10DataFrame.to_csv\x93.",
        "copyreg": pickle.dumps(copyreg._reconstructor, protocol=4),
        "getattr": pickle.dumps(Call(getattr, "", "upper")),
        "extension": b"\x80\x02\x82\x01.",
        "persistent id": b"\x80\x03X\x01\x00\x00\x00aQ.",
        "setattr on a stand-in": b"\x80\x03cnumpy.core.multiarray\n_reconstruct\nN}X\x08\x00\x00\x00__init__Ns\x86b.",
        "other codec": b"\x80\x03c_codecs\nencode\nX\x01\x00\x00\x00aX\x06\x00\x00\x00base64\x86R.",
        "huge memo": b"\x80\x03Nr\xff\xff\xff\x7f.",
        "huge bytes": b"\x80\x05\x96" + struct.pack("<Q", 1 << 60) + b".",
        "no frame": pickle.dumps({"x": 1}),
        "text": b"id,x,y\n1,2,3\n",
    }


@pytest.mark.parametrize("case", hostile())
@pytest.mark.parametrize("zipped", [False, True])
def test_refuses_without_running(tmp_path, monkeypatch, case, zipped):
    monkeypatch.chdir(tmp_path)
    content = hostile()[case]
    path = tmp_path / "00.pkl"
    path.write_bytes(gzip.compress(content) if zipped else content)
    with pytest.raises(FrameError) as caught:
        read_dataframe(path)
    assert str(path) in str(caught.value) and "\n" not in str(caught.value)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["00.pkl"]
    if case == "huge memo":
        assert "out of order" in str(caught.value), "refused before 32 GB are reserved"


def frame_pickle(**changes) -> bytes:
    """A DataFrame whose float block is replaced by ``values`` with another shape, dtype or content."""
    return pickle.dumps(pd.DataFrame({"x": np.arange(4.0)}), protocol=3).replace(*changes["swap"])


@pytest.mark.parametrize(
    "swap",
    [
        (struct.pack("<d", 1.0) + struct.pack("<d", 2.0), struct.pack("<d", 1.0)),  # fewer bytes than it says
        (b"X\x02\x00\x00\x00f8", b"X\x02\x00\x00\x00f4"),  # dtype and bytes disagree
        (b"X\x02\x00\x00\x00f8", b"X\x02\x00\x00\x00V8"),  # no number
        (b"K\x01K\x04\x86", b"K\x01K\x05\x86"),  # one row more
    ],
)
def test_arrays_that_contradict_themselves(tmp_path, swap):
    good = frame_pickle(swap=(b"", b""))
    assert swap[0] in good
    path = tmp_path / "00.pkl"
    path.write_bytes(good)
    np.testing.assert_array_equal(read_dataframe(path)["x"], np.arange(4.0))
    path.write_bytes(frame_pickle(swap=swap))
    with pytest.raises(FrameError, match=r"00\.pkl"):
        read_dataframe(path)


def test_columns_of_objects_are_refused(tmp_path):
    path = tmp_path / "00.pkl"
    frame = pd.DataFrame({"x": pd.Series([object, {}, 1], dtype=object).map(str).astype(object)})
    path.write_bytes(pickle.dumps(frame))
    with pytest.raises(FrameError, match="objects"):
        read_dataframe(path)


def test_gzip_bomb_truncation_and_rubbish(tmp_path, monkeypatch):
    path = tmp_path / "00.pkl.gz"
    path.write_bytes(gzip.compress(bytes(50 * 2**20)))
    with pytest.raises(FrameError, match="unpacks to more"):
        read_dataframe(path)
    content = gzip.compress(pickle.dumps(pd.DataFrame({"x": np.random.default_rng(0).normal(size=500)})))
    path.write_bytes(content)
    assert len(read_dataframe(path)["x"]) == 500
    for length in (1, 12, len(content) // 2, len(content) - 1):
        path.write_bytes(content[:length])
        with pytest.raises(FrameError, match=r"00\.pkl\.gz"):
            read_dataframe(path)
    path.write_bytes(b"\x1f\x8b" + b"rubbish" * 9)
    with pytest.raises(FrameError, match="gzip"):
        read_dataframe(path)
    path.write_bytes(b"")
    with pytest.raises(FrameError, match="empty"):
        read_dataframe(path)
    monkeypatch.setattr(unpickle, "MAX_UNPACKED_BYTES", 100)
    path.write_bytes(content)
    with pytest.raises(FrameError, match="unpacks to more than 100"):
        read_dataframe(path)
