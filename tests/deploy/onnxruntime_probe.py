"""`python -m tests.deploy.onnxruntime_probe FOLDER LIBRARY`: what onnxruntime_matrix.py runs in each environment."""

from __future__ import annotations

import sys
import warnings
from pathlib import Path

import numpy as np
import onnxruntime as ort

from deploy.bundle import STANDARD
from deploy.runtime import Classifier, RuntimeConfigurationError
from deploy.runtime import session as session_module
from deploy.runtime.session import supported_isas

# Far above the last bits in which ONNX Runtime's own operators differ, far below what a wrong weight does.
STANDARD_MAX_DIFFERENCE = 1e-4


def _inputs_and_logits(bundle: Path) -> tuple[dict[str, np.ndarray], np.ndarray]:
    with np.load(bundle.with_suffix(".npz"), allow_pickle=False) as arrays:
        return {name: arrays[name] for name in ("input_ids", "token_type_ids", "lengths")}, arrays["logits"]


def probe(bundle: Path, library: Path | None, isa: str | None) -> bool:
    """Return whether a bundle gives the logits that lie beside it, to the bit, on one thread and on two."""
    session_module.library_path = lambda: library
    inputs, logits = _inputs_and_logits(bundle)
    expected = logits.tobytes()
    return all(Classifier.load(bundle, threads=n, isa=isa).logits(inputs).tobytes() == expected for n in (1, 2))


def standard_difference(bundle: Path) -> float | None:
    """Return how far a standard bundle's logits are from those beside it; None where this version refuses it."""
    inputs, logits = _inputs_and_logits(bundle)
    try:
        return float(np.abs(Classifier.load(bundle, threads=2).logits(inputs) - logits).max())
    except RuntimeConfigurationError:
        if session_module._version() >= session_module.FIRST_WITH_TWO_BIT_PRODUCTS:
            raise
        return None


def main(folder: Path, library: Path) -> int:
    """Probe every bundle of the folder; return how many ways to run them gave other bits, or came not close."""
    warnings.simplefilter("ignore")
    session_module.library_path = lambda: library
    ways: list[tuple[str, Path | None, str | None]] = [(isa, library, isa) for isa in supported_isas()]
    ways.append(("function bodies", None, None))
    bundles = _bundles(folder)
    wrong = [f"{b.name} by {way}" for b in bundles for way, path, isa in ways if not probe(b, path, isa)]
    told = f"other bits: {', '.join(wrong)}" if wrong else "equal bits"
    print(f"onnxruntime {ort.__version__}, {len(bundles)} bundles by {', '.join(way for way, *_ in ways)}: {told}")
    found = [standard_difference(bundle) for bundle in _bundles(folder / STANDARD)]
    far = [difference for difference in found if difference is not None and difference > STANDARD_MAX_DIFFERENCE]
    largest = max((difference for difference in found if difference is not None), default=None)
    print(f"{len(found)} standard bundles: " + ("refused" if largest is None else f"within {largest:.2g}"))
    return len(wrong) + len(far)


def _bundles(folder: Path) -> list[Path]:
    return sorted(path.with_suffix("") for path in folder.glob("*.npz"))


if __name__ == "__main__":
    sys.exit(1 if main(Path(sys.argv[1]), Path(sys.argv[2])) else 0)
