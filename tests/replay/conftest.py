import pytest
from make_logs import make_plain_log
from tiny_model import save_tiny_model

from fusionseg.deploy.runtime import load


@pytest.fixture(scope="session")
def tiny_model(tmp_path_factory):
    return load(save_tiny_model(tmp_path_factory.mktemp("model") / "tiny.safetensors"))


@pytest.fixture(scope="session")
def plain_log(tmp_path_factory):
    return make_plain_log(tmp_path_factory.mktemp("plain") / "log", frames=3, cameras=("front", "left"))


@pytest.fixture(scope="session", params=["plain", "generated"])
def any_log(request):
    """A log of two cameras with labels of points, and one of the synthetic world with labels of pixels too."""
    return request.getfixturevalue(f"{request.param}_log")
