from __future__ import annotations

import numpy as np
import onnxruntime as ort
import pytest

from deploy.runtime.operator_library import library_path
from deploy.runtime.session import RuntimeConfigurationError, active_isa, session_options, supported_isas
from tests.deploy.driver import OperatorError, run_operator
from tests.deploy.driver import supported_isas as driver_isas

X = np.ones(3, np.float32)


def test_scalar_is_always_supported_and_both_entries_agree() -> None:
    assert supported_isas() == driver_isas()
    assert supported_isas()[0] == "scalar"


def test_the_environment_forces_an_instruction_set(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TI_QAT_ISA", "scalar")
    assert active_isa() == "scalar"
    run_operator("Gelu", X)
    session_options()


def test_an_unknown_value_in_the_environment_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TI_QAT_ISA", "avx3")
    with pytest.raises(OperatorError, match='TI_QAT_ISA: unknown instruction set "avx3"'):
        run_operator("Gelu", X)
    with pytest.raises(RuntimeConfigurationError, match=r'^TI_QAT_ISA: unknown instruction set "avx3"'):
        session_options()


def test_an_explicit_choice_wins_over_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TI_QAT_ISA", "avx3")
    run_operator("Gelu", X, isa="scalar")
    session_options(isa="scalar")


def test_an_unknown_choice_is_an_error() -> None:
    with pytest.raises(RuntimeConfigurationError, match='unknown instruction set "neon"; this machine supports scalar'):
        session_options(isa="neon")


def test_a_thread_count_below_one_is_an_error() -> None:
    for threads in (0, 9999):
        with pytest.raises(RuntimeConfigurationError, match=f"threads: expected 1 to 256, found {threads}"):
            session_options(threads=threads)


@pytest.mark.parametrize("value", ["0", "-1", "1025", "two", ""])
def test_a_wrong_number_of_threads_in_the_sessions_options_is_an_error(value: str) -> None:
    library = library_path()
    assert library is not None
    options = ort.SessionOptions()
    options.add_session_config_entry("ti_qat.threads", value)
    if value == "":  # as good as not given
        options.register_custom_ops_library(str(library))
        return
    with pytest.raises(Exception, match=f'ti_qat.threads: expected 1 to 1024, found "{value}"'):
        options.register_custom_ops_library(str(library))
