"""The one place that imports open3d, with an error that says which system library it misses."""

import importlib
import re
from typing import Any

DEBIAN_PACKAGES = {
    "libusb-1.0": "libusb-1.0-0",
    "libGL": "libgl1",
    "libEGL": "libegl1",
    "libX11": "libx11-6",
    "libgomp": "libgomp1",
}


def import_open3d() -> Any:
    """The module ``open3d``.

    Raises:
        ValueError: it is not installed, or a system library is missing; says how to install either.
    """
    try:
        return importlib.import_module("open3d")
    except ModuleNotFoundError as error:
        raise ValueError(
            f".pcd, .ply and synthetic worlds need open3d ({error}); install it: pip install 'fusionseg[logs]'"
        ) from error
    except (ImportError, OSError) as error:
        library = re.match(r"(lib[\w.+-]+?)\.so", str(error))
        name = library.group(1) if library else ""
        package = next((deb for prefix, deb in DEBIAN_PACKAGES.items() if name.startswith(prefix)), None)
        fix = f"sudo apt-get install {package or ' '.join(DEBIAN_PACKAGES.values())}"
        raise ValueError(f"open3d cannot be loaded, a system library is missing ({error}); {fix}") from error
