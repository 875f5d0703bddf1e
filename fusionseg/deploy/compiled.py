"""Compiled models kept in the user's cache folder, so that the next process starts sooner."""

import contextlib
import hashlib
import logging
import os
from collections.abc import Mapping
from pathlib import Path

from fusionseg.files import atomic_write

logger = logging.getLogger(__name__)
MAX_KEPT = 16
DIGEST_BYTES = hashlib.sha256().digest_size


def cache_folder() -> Path:
    """The user's cache folder of this program: ``$XDG_CACHE_HOME/fusionseg`` or ``~/.cache/fusionseg``."""
    return Path(os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache")) / "fusionseg"


class CompiledCache:
    """One compiled model, stored behind its SHA-256.

    Args:
        kind: of the compiler, names the folder.
        facts: all that the compiled model depends on: digests of its files, version, processor, settings.
    """

    def __init__(self, kind: str, facts: Mapping[str, object]) -> None:
        key = hashlib.sha256(repr(sorted(facts.items())).encode()).hexdigest()
        self.path = cache_folder() / kind / f"{key}.blob"

    def read(self) -> bytes | None:
        """The compiled model; None where there is none or it is damaged."""
        try:
            content = self.path.read_bytes()
        except OSError:
            return None
        digest, blob = content[:DIGEST_BYTES], content[DIGEST_BYTES:]
        return blob if digest == hashlib.sha256(blob).digest() else None

    def write(self, blob: bytes) -> None:
        """Keep it, and of all that are kept the newest ``MAX_KEPT``; a folder that cannot be written keeps nothing."""
        try:
            with atomic_write(self.path) as file:
                file.write(hashlib.sha256(blob).digest() + blob)
            kept = sorted(self.path.parent.glob("*.blob"), key=lambda path: path.stat().st_mtime_ns)
        except (ValueError, OSError) as error:
            logger.debug("compiled model is not kept: %s", error)
            return
        for path in kept[:-MAX_KEPT]:
            with contextlib.suppress(OSError):
                path.unlink()
