import errno
import json
import os

import av
import numpy as np
import pytest

from fusionseg.labels import DRIVING12
from fusionseg.replay.sink import Video, new_folder, write_classes, write_point_labels


def test_output_folder_is_obeyed_literally(tmp_path):
    assert new_folder(tmp_path / "a" / "b", "replay") == tmp_path / "a" / "b"
    assert (tmp_path / "a" / "b").is_dir()
    assert new_folder(tmp_path / "a" / "b", "replay") == tmp_path / "a" / "b"


def test_default_folders_are_numbered_past_the_last(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert str(new_folder(None, "replay")) == "runs/replay/1"
    (tmp_path / "runs/replay/7").mkdir()
    assert str(new_folder(None, "replay")) == "runs/replay/8"


def test_folder_of_another_run_is_refused(tmp_path):
    (tmp_path / "summary.json").write_text("{}")
    with pytest.raises(ValueError, match="holds files of an earlier run"):
        new_folder(tmp_path, "replay")


def test_file_in_place_of_the_folder_is_refused(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(ValueError, match="is a file"):
        new_folder(tmp_path / "file", "replay")
    with pytest.raises(ValueError, match="cannot be made"):
        new_folder(tmp_path / "file" / "below", "replay")


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_read_only_folder_is_refused(tmp_path):
    (tmp_path / "closed").mkdir(mode=0o500)
    with pytest.raises(ValueError, match="cannot be written"):
        new_folder(tmp_path / "closed", "replay")


def test_point_labels_are_little_endian_words(tmp_path):
    write_point_labels(tmp_path / "0.label", np.array([10, 255], dtype=np.uint8))
    assert (tmp_path / "0.label").read_bytes() == b"\x0a\0\0\0\xff\0\0\0"


def test_classes_are_the_key_to_the_labels(tmp_path):
    write_classes(tmp_path / "classes.json", DRIVING12)
    key = json.loads((tmp_path / "classes.json").read_text())
    assert key["names"]["10"] == "car" and key["colours"]["10"] == [0, 0, 230] and key["unknown"] == 255


def test_video_appears_when_it_is_closed_and_shows_what_went_in(tmp_path):
    path = tmp_path / "x.mp4"
    with Video(path, rate_hz=10.0) as video:
        for level in (40, 120, 200):
            video.add(np.full((48, 64, 3), level, dtype=np.uint8))
        assert not path.exists()
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        shown = [frame.to_ndarray(format="rgb24").mean() for frame in container.decode(stream)]
        assert (stream.codec_context.name, stream.codec_context.pix_fmt) == ("h264", "yuv420p")
        assert stream.average_rate == 10
    np.testing.assert_allclose(shown, [40, 120, 200], atol=4)
    assert [p.name for p in tmp_path.iterdir()] == ["x.mp4"]


def test_picture_of_another_size_is_fitted(tmp_path):
    with Video(tmp_path / "x.mp4") as video:
        video.add(np.full((48, 64, 3), 200, dtype=np.uint8))
        video.add(np.full((96, 64, 3), 200, dtype=np.uint8))
    with av.open(str(tmp_path / "x.mp4")) as container:
        last = [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)][-1]
    assert last.shape == (48, 64, 3)
    assert last[:, :28].mean() > 180 and last[:, 40:].mean() < 40


def test_video_without_pictures_leaves_no_file(tmp_path):
    with Video(tmp_path / "x.mp4"):
        pass
    assert not list(tmp_path.iterdir())


def test_video_that_cannot_be_written_is_one_clear_error(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(ValueError, match="cannot be written"):
        Video(tmp_path / "file" / "x.mp4")


def test_a_video_that_cannot_be_finished_leaves_nothing(tmp_path, monkeypatch):
    video = Video(tmp_path / "a.mp4")
    video.add(np.zeros((32, 48, 3), dtype=np.uint8))

    def full(*paths):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("fusionseg.replay.sink.os.fsync", full)
    with pytest.raises(ValueError, match=r"a\.mp4: cannot be written \(No space left on device\)"):
        video.close()
    assert list(tmp_path.iterdir()) == []
