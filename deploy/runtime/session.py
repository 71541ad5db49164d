"""An ONNX Runtime session over a bundle's model, with the compiled operators where they are installed."""

from __future__ import annotations

import os
import warnings

import onnxruntime as ort

from deploy.bundle import MODEL_FILE, STANDARD, WEIGHTS_FILE, Bundle
from deploy.bundle_files import BundleError
from deploy.model_check import ModelRefusedError, Weights, check_model
from deploy.runtime.operator_library import library_path

# Key of the session option that names an instruction set (deploy/csrc/ort/register.cpp).
ISA_OPTION = "ti_qat.isa"
# Key of the session option that says on how many threads the operators run; it decides how they cut their work.
THREADS_OPTION = "ti_qat.threads"
ISA_VARIABLE = "TI_QAT_ISA"
# Far above any machine's cores: each thread takes a stack, and thousands would take all memory.
MAX_THREADS = 256
ISAS = ("scalar", "sse41", "avx2", "avxvnni", "avx512vnni", "neon", "neondot")

# Where a model that is given as bytes has its external data; known since this version.
WEIGHTS_FOLDER_OPTION = "session.model_external_initializers_file_folder_path"
FIRST_WITH_WEIGHTS_FOLDER = (1, 22)
# MatMulNBits with bits=2 on a CPU.
FIRST_WITH_TWO_BIT_PRODUCTS = (1, 24)

# Name, element type and rank of what a bundle's model takes.
MODEL_INPUTS = (
    ("input_ids", "tensor(int32)", 2),
    ("token_type_ids", "tensor(int32)", 2),
    ("lengths", "tensor(int32)", 1),
)


class RuntimeConfigurationError(ValueError):
    """A request that this installation or this machine cannot serve."""


def session_options(
    *, threads: int | None = None, isa: str | None = None, standard: bool = False
) -> ort.SessionOptions:
    """Return the options of a session: `threads` of the operators' pool, and the instruction set.

    A `standard` model runs without the compiled operators. Raises RuntimeConfigurationError for an
    instruction set that is unknown or not supported here.
    """
    if threads is not None and not 1 <= threads <= MAX_THREADS:
        raise RuntimeConfigurationError(f"threads: expected 1 to {MAX_THREADS}, found {threads}")
    options = ort.SessionOptions()
    options.log_severity_level = 3
    options.inter_op_num_threads = 1
    if threads is not None:
        options.intra_op_num_threads = threads
    if standard:
        if isa is not None:
            raise RuntimeConfigurationError(
                f"isa: {isa} was asked for, but a {STANDARD} bundle has no operators of ours"
            )
        return options
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
        raise RuntimeConfigurationError(reason(error)) from error
    return options


def open_session(bundle: Bundle, *, threads: int | None = None, isa: str | None = None) -> ort.InferenceSession:
    """Open the bundle's model; see `session_options`.

    Raises RuntimeConfigurationError for a standard bundle on an ONNX Runtime without 2-bit products,
    BundleError for a model that may not be opened (deploy/model_check.py), that ONNX Runtime refuses, or
    whose files change while it is opened.
    """
    standard = bundle.manifest.is_standard
    options = session_options(threads=threads, isa=isa, standard=standard)
    if standard and _version() < FIRST_WITH_TWO_BIT_PRODUCTS:
        raise RuntimeConfigurationError(
            f"{bundle.path}: a {STANDARD} bundle needs ONNX Runtime 1.24 or newer, found {ort.__version__}"
        )
    if library_path() is None and not standard:
        warnings.warn("the compiled operators are not installed: same results, much slower", stacklevel=3)
    model, content = bundle.path / MODEL_FILE, bundle.read(MODEL_FILE)
    try:
        check_model(content, Weights(WEIGHTS_FILE, bundle.stamps[WEIGHTS_FILE].size_bytes))
    except ModelRefusedError as error:
        raise BundleError(model, "model", expected="one that is safe to open", found=str(error)) from error
    options.add_session_config_entry("session.load_model_format", "ONNX")
    source: str | bytes = str(model)
    if _version() >= FIRST_WITH_WEIGHTS_FOLDER:
        # The bytes that were checked, whatever the file holds by now.
        options.add_session_config_entry(WEIGHTS_FOLDER_OPTION, str(bundle.path))
        source = content
    try:
        # The fallback is to the same processor, and announces itself on standard output.
        session = ort.InferenceSession(source, options, providers=["CPUExecutionProvider"], enable_fallback=False)
    except Exception as error:  # as above
        raise BundleError(model, "model", expected="a model ONNX Runtime loads", found=reason(error)) from error
    for name in (MODEL_FILE, WEIGHTS_FILE):
        bundle.require_unchanged(name)
    _require_signature(bundle, session)
    return session


def _version() -> tuple[int, ...]:
    return tuple(int(part) for part in ort.__version__.split(".")[:2])


def _require_signature(bundle: Bundle, session: ort.InferenceSession) -> None:
    """Raise BundleError unless the model takes tokens and gives a logit for every label of the manifest."""
    model = bundle.path / MODEL_FILE
    inputs = tuple((found.name, found.type, len(found.shape)) for found in session.get_inputs())
    if inputs != MODEL_INPUTS:
        raise BundleError(model, "inputs", expected=str(MODEL_INPUTS), found=str(inputs)[:200])
    labels = len(bundle.manifest.labels)
    outputs = [(found.type, len(found.shape), found.shape[-1:]) for found in session.get_outputs()]
    if outputs != [("tensor(float)", 2, [labels])]:
        raise BundleError(model, "outputs", expected=f"float32 (B, {labels})", found=str(outputs)[:200])


def supported_isas() -> tuple[str, ...]:
    """Return the instruction sets this machine can run, the plainest first; none without the operators."""

    def runs(isa: str) -> bool:
        try:
            session_options(isa=isa)
        except RuntimeConfigurationError:
            return False
        return True

    return tuple(isa for isa in ISAS if runs(isa))


def active_isa(isa: str | None = None, *, standard: bool = False) -> str:
    """Return the instruction set that a session opened with `isa` computes with, or "standard operators"."""
    available = supported_isas()
    if standard or not available:
        return "standard operators"
    return isa or os.environ.get(ISA_VARIABLE) or available[-1]


def reason(error: Exception) -> str:
    """Return ONNX Runtime's message without its numeric prefix."""
    return str(error).rpartition("INVALID_ARGUMENT : ")[2]
