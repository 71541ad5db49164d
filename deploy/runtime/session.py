"""An ONNX Runtime session over a bundle's model, with the compiled operators where they are installed."""

from __future__ import annotations

import os
import warnings

import onnxruntime as ort

from deploy.bundle import MODEL_FILE, Bundle, BundleError
from deploy.runtime.operator_library import library_path

# Key of the session option that names an instruction set (deploy/csrc/ort/register.cpp).
ISA_OPTION = "ti_qat.isa"
# Key of the session option that says on how many threads the operators run; it decides how they cut their work.
THREADS_OPTION = "ti_qat.threads"
ISA_VARIABLE = "TI_QAT_ISA"
# Far above any machine's cores: each thread takes a stack, and thousands would take all memory.
MAX_THREADS = 256
ISAS = ("scalar", "sse41", "avx2", "avxvnni", "avx512vnni", "neon", "neondot")


class RuntimeConfigurationError(ValueError):
    """A request that this installation or this machine cannot serve."""


def session_options(*, threads: int | None = None, isa: str | None = None) -> ort.SessionOptions:
    """Return the options of a session: `threads` of the operators' pool, and the instruction set.

    Raises RuntimeConfigurationError for an instruction set that is unknown or not supported here.
    """
    if threads is not None and not 1 <= threads <= MAX_THREADS:
        raise RuntimeConfigurationError(f"threads: expected 1 to {MAX_THREADS}, found {threads}")
    options = ort.SessionOptions()
    options.log_severity_level = 3
    options.inter_op_num_threads = 1
    if threads is not None:
        options.intra_op_num_threads = threads
    library = library_path()
    if library is None:
        if isa is not None:
            raise RuntimeConfigurationError(f"isa: {isa} was asked for, but the compiled operators are not installed")
        return options
    if isa is not None:
        options.add_session_config_entry(ISA_OPTION, isa)
    if threads is not None:
        options.add_session_config_entry(THREADS_OPTION, str(threads))
    try:
        options.register_custom_ops_library(str(library))
    except Exception as error:  # ONNX Runtime's exception classes have no public common base
        raise RuntimeConfigurationError(_reason(error)) from error
    return options


def open_session(bundle: Bundle, *, threads: int | None = None, isa: str | None = None) -> ort.InferenceSession:
    """Open the bundle's model; see `session_options`. Raises BundleError if ONNX Runtime refuses it."""
    options = session_options(threads=threads, isa=isa)
    if library_path() is None:
        warnings.warn("the compiled operators are not installed: same results, much slower", stacklevel=3)
    model = bundle.path / MODEL_FILE
    try:
        return ort.InferenceSession(str(model), options, providers=["CPUExecutionProvider"])
    except Exception as error:  # as above
        raise BundleError(model, "model", expected="a model ONNX Runtime loads", found=_reason(error)) from error


def supported_isas() -> tuple[str, ...]:
    """Return the instruction sets this machine can run, the plainest first; none without the operators."""

    def runs(isa: str) -> bool:
        try:
            session_options(isa=isa)
        except RuntimeConfigurationError:
            return False
        return True

    return tuple(isa for isa in ISAS if runs(isa))


def active_isa(isa: str | None = None) -> str:
    """Return the instruction set that a session opened with `isa` computes with, or "standard operators"."""
    available = supported_isas()
    if not available:
        return "standard operators"
    return isa or os.environ.get(ISA_VARIABLE) or available[-1]


def _reason(error: Exception) -> str:
    """ONNX Runtime's message without its numeric prefix."""
    return str(error).rpartition("INVALID_ARGUMENT : ")[2]
