import pytest
from tiny_model import save_tiny_model

from fusionseg.deploy.runtime import load


@pytest.fixture(scope="session")
def tiny_model(tmp_path_factory):
    return load(save_tiny_model(tmp_path_factory.mktemp("model") / "tiny.safetensors"))
