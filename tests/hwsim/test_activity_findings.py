"""`simulate --activity`: whole numbers of all rows, the same on any number of threads, in either profile."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

from hwsim.activity.findings import ActivityFindings
from hwsim.activity.wires import WireClass
from hwsim.config import Accelerator, Dataflow, ZeroGating, read_accelerator
from hwsim.datapath.batches import graph_inputs
from hwsim.estimate import estimate
from hwsim.schedule.workload import nonzero_weights
from hwsim.simulate import Profile, Simulation, simulate
from hwsim.units.actions import Action
from tests.builders import tiny_artifact
from tests.hwsim.array_walk import walk
from ti_qat.artifact import reference
from ti_qat.artifact.encoder import Operation, OpKind, execute
from ti_qat.artifact.io import Artifact
from ti_qat.cli import main


@pytest.fixture(scope="module")
def artifact(tmp_path_factory: pytest.TempPathFactory) -> Artifact:
    return tiny_artifact(tmp_path_factory.mktemp("artifact") / "tiny", layers=1, hidden=12, heads=2, feed_forward=9)


def activity(artifact: Artifact, accelerator: Accelerator, **settings: object) -> ActivityFindings:
    found = simulate(artifact, accelerator, activity=True, **settings)[0].activity
    assert found is not None
    return found


def walked(artifact: Artifact, accelerator: Accelerator, rows: int) -> dict[str, Counter[WireClass]]:
    """Every product of the first rows as the NumPy oracle computes them, through the walk."""
    found: dict[str, Counter[WireClass]] = {}

    def observe(op: Operation, operands: dict[str, np.ndarray], _: object) -> None:
        heads = op.attributes.get("heads", 1)
        match op.kind:
            case OpKind.TERNARY_LINEAR:
                pairs = [(operands["codes"].reshape(-1, operands["codes"].shape[-1]), operands["weight_codes"])]
            case OpKind.ATTENTION_SCORES:
                pairs = [
                    (q, k)
                    for q, k in zip(
                        np.split(operands["query"][0], heads, -1), np.split(operands["key"][0], heads, -1), strict=True
                    )
                ]
            case OpKind.ATTENTION_CONTEXT:
                values = np.split(operands["value"][0], heads, -1)
                pairs = [(p, v.T) for p, v in zip(operands["probabilities"][0], values, strict=True)]
            case _:
                return
        for x, w in pairs:
            toggles = walk(x, w, accelerator, ternary=op.kind is OpKind.TERNARY_LINEAR).toggles
            found.setdefault(op.name, Counter()).update(toggles)

    for row in range(rows):
        inputs = graph_inputs(artifact.evaluation, np.array([row]))
        execute(artifact.encoder, reference.KERNELS, artifact.parameters, inputs, observe)
    return found


@pytest.mark.parametrize("dataflow", list(Dataflow))
def test_every_operation_is_counted_row_by_row(artifact: Artifact, dataflow: Dataflow) -> None:
    accelerator = read_accelerator("wearable").model_copy(
        update={"dataflow": dataflow, "array_rows": 4, "array_columns": 8}
    )
    found = activity(artifact, accelerator, limit=3)
    expected = walked(artifact, accelerator, 3)
    assert found.toggles_by_operation == {
        name: {wires.value: toggles[wires] for wires in WireClass} for name, toggles in expected.items()
    }
    for by in (found.toggles_by_operation, found.toggles_by_layer):
        summed = Counter[str]()
        for toggles in by.values():
            summed.update(toggles)
        assert summed == found.toggles_by_wire_class
    assert set(found.toggles_by_layer) == {"layers.0", "pooler"}
    assert found.toggles == sum(found.toggles_by_wire_class.values())
    assert found.toggles_per_mac == found.toggles / found.macs


def test_findings_depend_on_neither_threads_nor_the_profile_s_other_arithmetic(artifact: Artifact) -> None:
    accelerator = read_accelerator("phone")
    alone = activity(artifact, accelerator, threads=1)
    assert activity(artifact, accelerator, threads=3) == alone
    fixed = activity(artifact, accelerator, profile=Profile.FIXED)
    assert fixed.macs == alone.macs
    assert fixed.zero_weight_fraction == alone.zero_weight_fraction


def test_gating_leaves_sums_alone_and_stops_their_clock(artifact: Artifact) -> None:
    base = read_accelerator("phone")
    none, weights, both = (activity(artifact, base.model_copy(update={"zero_gating": gating})) for gating in ZeroGating)
    assert none.gated_fraction == 0
    assert 0 < weights.gated_fraction < both.gated_fraction
    zero = none.zero_weight_fraction + none.zero_activation_fraction - none.zero_both_fraction
    assert both.gated_fraction == pytest.approx(zero, abs=1e-12)  # three divisions of whole numbers
    for gated in (weights, both):
        clocked = gated.clocked_bits_by_wire_class["sum_register"]
        assert clocked == base.accumulator_bits * (gated.macs - sum(gated.gated_macs_by_operation.values()))
        assert gated.toggles_by_wire_class["sum_register"] == none.toggles_by_wire_class["sum_register"]
        assert gated.toggles_by_wire_class["product"] < none.toggles_by_wire_class["product"]


def test_gated_zero_weights_cost_nothing_where_sums_stay(artifact: Artifact) -> None:
    nonzero = nonzero_weights(artifact.encoder, artifact.parameters)
    for dataflow in Dataflow:
        base = read_accelerator("phone").model_copy(update={"dataflow": dataflow})
        gated = base.model_copy(update={"zero_gating": ZeroGating.WEIGHTS})
        before, after = (estimate(artifact.encoder, accelerator, [5], nonzero) for accelerator in (base, gated))
        zero = Action.TERNARY_MAC_ZERO.value
        if dataflow is Dataflow.OUTPUT_STATIONARY:
            assert before.actions_per_inference[zero] > after.actions_per_inference[zero] == 0
            assert after.energy_pj_per_inference < before.energy_pj_per_inference
        else:
            assert after.energy_pj_per_inference == before.energy_pj_per_inference


def test_the_command_prints_one_more_line_and_keeps_the_findings(artifact: Artifact, tmp_path: Path) -> None:
    out = tmp_path / "out"
    arguments = ["simulate", str(artifact.path), "--accelerator", "phone", "--out", str(out)]
    plain = CliRunner().invoke(main, arguments)
    assert plain.exit_code == 0, plain.output
    assert Simulation.model_validate_json((out / "simulation.json").read_text()).activity is None
    counted = CliRunner().invoke(main, [*arguments, "--activity"])
    assert counted.exit_code == 0, counted.output
    found = Simulation.model_validate_json((out / "simulation.json").read_text()).activity
    assert found is not None
    *same, line = counted.stdout.splitlines()
    assert same == plain.stdout.splitlines()
    assert line.startswith(f"activity: {found.toggles_per_mac:.2f} toggles a multiply-accumulate (activation register ")
