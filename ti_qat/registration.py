"""Makes `import ti_qat` enough for transformers to load students, at no cost where there is no transformers.

Standard library only: every stage runs this, the runtime of a device included.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from importlib import import_module
from importlib.machinery import ModuleSpec, PathFinder
from types import ModuleType

QUANTIZER_REGISTRY = "transformers.quantizers.auto"
REGISTERED_BY = "ti_qat.hf_quantizer"


class RegisterOnImport:
    """Meta path finder that registers our quantiser as soon as transformers has its registry."""

    def find_spec(self, name: str, path: Sequence[str] | None, target: ModuleType | None = None) -> ModuleSpec | None:
        """Return the registry's spec, with our registration after its execution; None for any other module."""
        if name != QUANTIZER_REGISTRY:
            return None
        spec = PathFinder.find_spec(name, path, target)
        if spec is None or spec.loader is None:
            return None
        execute = spec.loader.exec_module

        def execute_and_register(module: ModuleType) -> None:
            execute(module)
            import_module(REGISTERED_BY)

        spec.loader.exec_module = execute_and_register  # type: ignore[method-assign]
        return spec


def register_with_transformers() -> None:
    """Register the quantiser now where transformers is there already, or else when it is imported."""
    if QUANTIZER_REGISTRY in sys.modules:
        import_module(REGISTERED_BY)
    else:
        sys.meta_path.insert(0, RegisterOnImport())
