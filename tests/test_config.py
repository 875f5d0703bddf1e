"""Strict YAML configs: known answers, every kind of mistake, and output files that are whole or absent."""

import dataclasses
from pathlib import Path

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from fusionseg.config import (
    AugmentConfig,
    DataConfig,
    LossConfig,
    ModelConfig,
    OptimizerConfig,
    SourceConfig,
    TrainConfig,
    from_dict,
    load_config,
    save_config,
    to_dict,
)

CONFIGS = sorted((Path(__file__).parents[1] / "configs").glob("*.yaml"))


@pytest.fixture
def written(tmp_path):
    """A function that writes YAML text and returns its path."""

    def write(text, name="experiment.yaml"):
        path = tmp_path / name
        path.write_text(text, encoding="utf-8")
        return path

    return write


def test_there_are_shipped_configs():
    assert CONFIGS, "configs/ holds no YAML file"


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.stem)
def test_every_shipped_config_parses(path):
    assert load_config(path).data.train, "an experiment names what it trains on"


def test_values_arrive_as_the_annotated_types(written):
    config = load_config(
        written(
            "epochs: 3\n"
            "threads: null\n"
            "optimizer: {lr: 2e-3, weight_decay: 1}\n"
            "augment: {crop: [96, 160], scale: [0.5, 2]}\n"
            "data:\n"
            "  size: [180, 320]\n"
            "  train:\n"
            "    - {path: a, cameras: [front, back], options: {lidar: 0}}\n"
            "    - {path: b, frames: '0:4'}\n"
        )
    )
    assert config.epochs == 3
    assert config.threads is None
    assert config.optimizer.lr == 0.002  # YAML 1.1 calls 2e-3 a string
    assert config.optimizer.weight_decay == 1.0
    assert isinstance(config.optimizer.weight_decay, float)
    assert config.augment.crop == (96, 160)
    assert config.augment.scale == (0.5, 2.0)
    assert config.data.size == (180, 320)
    assert config.data.train == (
        SourceConfig(path="a", cameras=("front", "back"), options={"lidar": 0}),
        SourceConfig(path="b", frames="0:4"),
    )
    assert config.model == ModelConfig(), "what is not stated keeps its default"


def test_empty_file_is_all_defaults(written):
    assert load_config(written("")) == TrainConfig()


def test_other_kinds_of_config_load_too(written):
    assert load_config(written("{name: sgd, lr: 0.1}"), kind=OptimizerConfig) == OptimizerConfig(name="sgd", lr=0.1)


def test_a_config_is_frozen():
    with pytest.raises(dataclasses.FrozenInstanceError):
        TrainConfig().epochs = 2


def test_save_and_load_round_trip(tmp_path):
    config = TrainConfig(
        data=DataConfig(
            train=(SourceConfig(path="a", cameras=("x",), options={"k": [1, {"m": None}]}),), size=(32, 64)
        ),
        augment=AugmentConfig(crop=(16, 32), scale=(0.75, 1.25)),
        loss=LossConfig(pixel_loss="ohem"),
        epochs=7,
        threads=2,
    )
    save_config(config, tmp_path / "run" / "config.yaml")
    assert load_config(tmp_path / "run" / "config.yaml") == config


@settings(deadline=None)  # a busy machine is no failure
@given(
    lr=st.floats(1e-12, 1e6),
    sizes=st.tuples(st.integers(1, 4096), st.integers(1, 4096)),
    name=st.text(st.characters(codec="utf-8", exclude_categories=("Cs",)), max_size=20),
    cameras=st.lists(st.sampled_from(["null", "1e3", "yes", "on", "0x10", "front camera", "~", "#1", "a: b"])),
)
def test_round_trip_keeps_any_value(lr, sizes, name, cameras):
    source = SourceConfig(path=name, cameras=tuple(cameras))
    config = TrainConfig(data=DataConfig(train=(source,), size=sizes), optimizer=OptimizerConfig(lr=lr))
    text = yaml.safe_dump(to_dict(config), sort_keys=False)
    assert from_dict(TrainConfig, yaml.safe_load(text)) == config


def test_to_dict_holds_plain_yaml_types_alone():
    def check(value):
        if isinstance(value, dict):
            for key, item in value.items():
                assert type(key) is str
                check(item)
        elif isinstance(value, list):
            for item in value:
                check(item)
        else:
            assert value is None or type(value) in (str, int, float, bool)

    check(to_dict(TrainConfig(data=DataConfig(train=(SourceConfig(path="a"),)))))


def test_overrides_reach_scalars_lists_entries_and_new_keys(written):
    path = written("data: {train: [{path: a}, {path: b}], size: [10, 20]}\nepochs: 1\n")
    config = load_config(
        path,
        [
            "epochs=20",
            "amp=true",
            "optimizer.lr=1e-4",
            "data.train.1.path=c=d",
            "data.train.0.cameras=[front, left]",
            "data.size.1=40",
            "augment.crop=[5, 6]",
            "data.train.1.frames=48:56",
            "threads=null",
            "epochs=21",
        ],
    )
    assert config.epochs == 21, "the last override of a key counts"
    assert config.amp is True
    assert config.optimizer.lr == 1e-4
    assert [source.path for source in config.data.train] == ["a", "c=d"]
    assert config.data.train[0].cameras == ("front", "left")
    assert config.data.size == (10, 40)
    assert config.augment.crop == (5, 6)
    assert config.data.train[1].frames == "48:56", "YAML 1.1 would read a number in base 60"
    assert config.threads is None
    assert yaml.safe_load(path.read_text())["epochs"] == 1, "the file itself stays as it is"


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("epoch: 3", ["unknown key 'epoch'", "did you mean 'epochs'?"]),
        ("optimizer: {learning: 1}", ["unknown key 'optimizer.learning'", "known are name, lr"]),
        ("data: {train: [{path: a}, {pth: b}]}", ["unknown key 'data.train[1].pth'", "'path'"]),
        ("7: 3", ["unknown key '7'"]),
        ("epochs: three", ["epochs is 'three'", "expected int"]),
        ("epochs: 2.0", ["epochs is 2.0", "expected int"]),
        ("epochs: true", ["epochs is True", "expected int"]),
        ("epochs:", ["epochs is None", "expected int"]),
        ("amp: 1", ["amp is 1", "expected bool"]),
        ("optimizer: {lr: fast}", ["optimizer.lr is 'fast'", "expected a number"]),
        ("optimizer: {lr: true}", ["optimizer.lr is True", "expected a number"]),
        ("optimizer: 3", ["optimizer is 3", "expected a mapping"]),
        ("data: {size: 360}", ["data.size is 360", "expected a list"]),
        ("data: {size: '36'}", ["data.size is '36'", "expected a list"]),
        ("data: {size: [360]}", ["data.size has 1 entries", "expected 2"]),
        ("data: {size: [360, wide]}", ["data.size[1] is 'wide'", "expected int"]),
        ("data: {train: {path: a}}", ["data.train is", "expected a list"]),
        ("data: {train: [a]}", ["data.train[0] is 'a'", "expected a mapping"]),
        ("data: {train: [{format: plain}]}", ["data.train[0]", "path"]),
        ("data: {train: [{path: a, options: 3}]}", ["data.train[0].options is 3", "expected a mapping"]),
        ("data: {train: [{path: a, weight: 0}]}", ["data.train[0].weight is 0.0", "above 0"]),
        ("data: {size: [0, 640]}", ["data.size is (0, 640)", "at least 1"]),
        ("data: {workers: -1}", ["data.workers is -1", "at least 0"]),
        ("batch_size: 0", ["batch_size is 0", "at least 1"]),
        ("threads: 0", ["threads is 0", "at least 1"]),
        ("optimizer: {lr: 0}", ["optimizer.lr is 0.0", "above 0"]),
        ("optimizer: {lr: .nan}", ["optimizer.lr is '.nan'", "expected a number"]),
        ("optimizer: {lr: 1e999}", ["optimizer.lr is inf", "finite"]),
        ("optimizer: {ema_decay: 1.5}", ["optimizer.ema_decay is 1.5", "at most 1"]),
        ("loss: {lovasz: -1}", ["loss.lovasz is -1.0", "at least 0"]),
        ("augment: {flip: 2}", ["augment.flip is 2.0", "at most 1"]),
        ("augment: {crop: [0, 5]}", ["augment.crop is (0, 5)", "at least 1"]),
        ("augment: {scale: [2, 1]}", ["augment.scale is (2.0, 1.0)", "smaller factor first"]),
        ("augment: {drop_image: 0.7, drop_lidar: 0.7}", ["augment.drop_image and drop_lidar", "at most 1"]),
        ("model: {fusion_channels: [0, 1, 2, 3]}", ["model.fusion_channels is (0, 1, 2, 3)", "at least 1"]),
        ("[1, 2]", ["expected a mapping"]),
        ("just words", ["'just words'", "expected a mapping"]),
        ("0", ["is 0", "expected a mapping"]),
        ("epochs: [1", ["not valid YAML", "line 1"]),
        ("a: 1\nb: 2\n  c: 3", ["not valid YAML", "line 3"]),
        ("x: !!python/object/apply:os.system [exit]", ["not valid YAML", "could not determine a constructor"]),
    ],
)
def test_a_mistake_in_the_file_is_named_in_one_line(written, text, words):
    path = written(text)
    with pytest.raises(ValueError) as caught:
        load_config(path)
    message = str(caught.value)
    assert message.startswith(str(path))
    assert "\n" not in message
    for word in words:
        assert word in message


@pytest.mark.parametrize(
    ("override", "words"),
    [
        ("epochs", ["override 'epochs'", "no '='", "key=value"]),
        ("epoch=3", ["unknown key 'epoch'", "did you mean 'epochs'?"]),
        ("epochs=[1", ["override 'epochs=[1'", "not valid YAML"]),
        ("epochs=x", ["epochs is 'x'", "expected int"]),
        ("epochs.deep=1", ["override 'epochs.deep'", "'epochs' is a single value"]),
        ("data.train.1.path=b", ["'1' is no index of a list of 1"]),
        ("data.train.-1.path=b", ["'-1' is no index of a list of 1"]),
        ("data.train.first.path=b", ["'first' is no index of a list of 1"]),
        ("=3", ["unknown key ''"]),
    ],
)
def test_a_mistake_in_an_override_is_named_in_one_line(written, override, words):
    path = written("epochs: 1\ndata: {train: [{path: a}]}\n")
    with pytest.raises(ValueError) as caught:
        load_config(path, [override])
    message = str(caught.value)
    assert "\n" not in message
    for word in words:
        assert word in message


def test_a_missing_file_says_what_to_name(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"none\.yaml: no such config file; name one of"):
        load_config(tmp_path / "none.yaml")
    with pytest.raises(FileNotFoundError, match="no such config file"):
        load_config(tmp_path)


def test_a_binary_file_is_no_config(tmp_path):
    path = tmp_path / "weights.yaml"
    path.write_bytes(b"\xff\xfe\x00binary")
    with pytest.raises(ValueError, match="expected a YAML file in UTF-8"):
        load_config(path)


def test_ranges_hold_in_python_too():
    with pytest.raises(ValueError, match="epochs is 0; expected a finite number of at least 1"):
        TrainConfig(epochs=0)
