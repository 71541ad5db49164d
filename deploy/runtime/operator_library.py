"""Where the shared library with the operators lies."""

from __future__ import annotations

import importlib
from pathlib import Path

FILE_NAME = "libti_qat_ops.so"


def library_path() -> Path | None:
    """Return the path of the operators' library, or None where the package was installed without it.

    An editable install keeps the Python files in the source tree and the library in site-packages;
    both directories are on the package's search path.
    """
    for directory in importlib.import_module("deploy.runtime").__path__:
        candidate = Path(directory) / "lib" / FILE_NAME
        if candidate.is_file():
            return candidate
    return None
