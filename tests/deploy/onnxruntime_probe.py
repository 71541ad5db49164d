"""`python -m tests.deploy.onnxruntime_probe FOLDER LIBRARY`: what onnxruntime_matrix.py runs in each environment."""

from __future__ import annotations

import sys
import warnings
from pathlib import Path

import numpy as np
import onnxruntime as ort

from deploy.runtime import Classifier
from deploy.runtime import session as session_module
from deploy.runtime.session import supported_isas


def probe(bundle: Path, library: Path | None, isa: str | None) -> bool:
    """Return whether a bundle gives the logits that lie beside it, to the bit, on one thread and on two."""
    session_module.library_path = lambda: library
    with np.load(bundle.with_suffix(".npz"), allow_pickle=False) as arrays:
        inputs = {name: arrays[name] for name in ("input_ids", "token_type_ids", "lengths")}
        expected = arrays["logits"].tobytes()
    return all(Classifier.load(bundle, threads=n, isa=isa).logits(inputs).tobytes() == expected for n in (1, 2))


def main(folder: Path, library: Path) -> int:
    """Probe every bundle of the folder; return how many ways to run them gave other bits."""
    warnings.simplefilter("ignore")
    session_module.library_path = lambda: library
    ways: list[tuple[str, Path | None, str | None]] = [(isa, library, isa) for isa in supported_isas()]
    ways.append(("function bodies", None, None))
    bundles = sorted(path.with_suffix("") for path in folder.glob("*.npz"))
    wrong = [f"{b.name} by {way}" for b in bundles for way, path, isa in ways if not probe(b, path, isa)]
    told = f"other bits: {', '.join(wrong)}" if wrong else "equal bits"
    print(f"onnxruntime {ort.__version__}, {len(bundles)} bundles by {', '.join(way for way, *_ in ways)}: {told}")
    return len(wrong)


if __name__ == "__main__":
    sys.exit(1 if main(Path(sys.argv[1]), Path(sys.argv[2])) else 0)
