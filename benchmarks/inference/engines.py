"""The engines that are compared, and the calls that each answers."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

OURS, OURS_SMALLER = "ti_qat", "ti_qat_1.6_bits"
# Versions that were checked to convert BERT; transformers 5 is not supported by all of the converters.
REQUIREMENTS = (
    "ctranslate2==4.8.5",
    "nncf==3.4.0",
    "numpy>=2",
    "onnx>=1.18",
    "onnx_ir",
    "onnxruntime==1.32.0",
    "openvino==2026.4.1",
    "sympy",
    "torch==2.13.0",
    "transformers==4.57.*",
)


@dataclass(frozen=True)
class Engine:
    """One side of the comparison.

    `is_int8`: its weights and activations are int8 in the matrix products. `package` is the one whose version is told.
    """

    name: str
    title: str
    package: str
    is_int8: bool = False


ENGINES = (
    Engine(OURS, "ours, 2 bits", "onnxruntime"),
    Engine(OURS_SMALLER, "ours, 1.6 bits", "onnxruntime"),
    Engine("openvino_int8", "OpenVINO int8, static", "openvino", is_int8=True),
    Engine("openvino_int4", "OpenVINO 4-bit", "openvino"),
    Engine("ctranslate2_int8", "CTranslate2 int8", "ctranslate2", is_int8=True),
    Engine("onnxruntime_int8", "ONNX Runtime int8", "onnxruntime", is_int8=True),
    Engine("onnxruntime_2bit", "ONNX Runtime 2-bit", "onnxruntime"),
    Engine("onnxruntime_fp32", "ONNX Runtime fp32", "onnxruntime"),
)
PEERS = tuple(engine.name for engine in ENGINES if engine.name not in {OURS, OURS_SMALLER})


@dataclass(frozen=True, order=True)
class Case:
    """A call: `batch` sequences of `tokens` tokens each, none of them padding, on `threads` threads."""

    threads: int
    batch: int
    tokens: int

    @property
    def shape(self) -> str:
        """The name of its shape in the files: the tokens, or batch x tokens."""
        return str(self.tokens) if self.batch == 1 else f"{self.batch}x{self.tokens}"


LENGTHS = (8, 16, 32, 64, 128, 256, 384)
BATCHES = ((8, 128),)
SHAPES = (*((1, tokens) for tokens in LENGTHS), *BATCHES)
# Where load time and memory are taken, in a process that does nothing else.
PROBED = Case(threads=1, batch=1, tokens=128)


def all_cases(threads: Iterable[int]) -> list[Case]:
    """Return every shape on every number of threads."""
    return [Case(count, batch, tokens) for count in threads for batch, tokens in SHAPES]


def engines_named(names: Sequence[str]) -> list[Engine]:
    """Return these engines, ours always among them, in the order of ENGINES; all of them for no names."""
    return [engine for engine in ENGINES if not names or engine.name in {OURS, OURS_SMALLER, *names}]
