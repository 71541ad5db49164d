"""`make test-onnxruntime`: small bundles on every supported ONNX Runtime, each in an environment of its own.

Every version loads the same bundles with the compiled operators, on every instruction set of this machine, and with
their function bodies alone; the logits must be the NumPy oracle's to the bit. Bundles of the profile `standard` must
come close to the oracle, or be refused in plain words by versions that lack their products. Prints what each version
did, and exits with 1 if one cannot be installed, cannot load a bundle, or computes another bit.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
import venv
from pathlib import Path

import numpy as np

from deploy.bundle import STANDARD
from deploy.export import pack
from deploy.runtime.operator_library import library_path
from tests.builders import tiny_artifact, tiny_quantization
from ti_qat.artifact.encoder import execute
from ti_qat.artifact.reference import KERNELS
from ti_qat.artifact.schema import ActivationScaling, Granularity

ROOT = Path(__file__).parents[2]
ENVIRONMENTS = ROOT / "build" / "onnxruntime"
NEWEST = "newest"
VERSIONS = ("1.19.2", "1.22.1", "1.24.4", "1.28.0", NEWEST)


def environment(version: str) -> Path:
    """Return the interpreter of an environment with that ONNX Runtime and what the runtime needs beside it."""
    folder = ENVIRONMENTS / version
    python = folder / "bin" / "python"
    if not python.exists():
        venv.create(folder, with_pip=True)
    wanted = "onnxruntime" if version == NEWEST else f"onnxruntime=={version}"
    flags = ["--quiet", "--disable-pip-version-check", *(["--upgrade"] if version == NEWEST else [])]
    subprocess.run([python, "-m", "pip", "install", *flags, wanted, "numpy>=2.0", "tokenizers>=0.21"], check=True)
    return python


def write_bundles(folder: Path) -> None:
    """Write bundles of both kinds of activation scales, each with inputs and the oracle's logits beside it.

    Those at 1.6 bits lie beside the others, those of the profile `standard` in a folder of that name.
    """
    kinds = {
        "static": tiny_quantization(),
        "per_token": tiny_quantization(
            activations=ActivationScaling.DYNAMIC_PER_TOKEN, linear_weights=Granularity.PER_TENSOR
        ),
    }
    for name, quantization in kinds.items():
        artifact = tiny_artifact(folder / "artifacts" / name, quantization=quantization, labels=3)
        bundles = {
            folder / name: {},
            folder / f"{name}_at_1_6_bits": {"weight_bits": 1.6},
            folder / STANDARD / name: {"profile": STANDARD},
        }
        split = artifact.evaluation
        inputs = {"input_ids": split.input_ids, "token_type_ids": split.token_type_ids, "lengths": split.lengths}
        logits = execute(artifact.encoder, KERNELS, artifact.parameters, inputs)
        for path, options in bundles.items():
            path.parent.mkdir(exist_ok=True)
            pack(artifact, path, **options)
            np.savez(path.with_suffix(".npz"), logits=logits, **inputs)


def main(versions: tuple[str, ...]) -> int:
    """Run the versions; return how many failed."""
    failed = 0
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_bundles(folder)
        for version in versions:
            try:
                command = [environment(version), "-m", "tests.deploy.onnxruntime_probe", folder, library_path()]
            except subprocess.CalledProcessError:
                print(f"{version}: cannot be installed", flush=True)
                failed += 1
                continue
            done = subprocess.run(
                [str(part) for part in command], cwd=ROOT, capture_output=True, text=True, check=False
            )
            ended = (
                done.stdout if done.returncode == 0 else f"{done.stdout}{done.stderr}exit status {done.returncode}\n"
            )
            print(f"{version}: {ended}", end="", flush=True)
            failed += done.returncode != 0
    return failed


if __name__ == "__main__":
    sys.exit(1 if main(tuple(sys.argv[1:]) or VERSIONS) else 0)
