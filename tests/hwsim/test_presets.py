"""Every accelerator that comes with the package runs BERT-base and an artifact, and is documented as it is."""

from __future__ import annotations

import tomllib
from pathlib import Path

import pytest

from hwsim.config import _PRESETS, Accelerator, preset_names, read_accelerator
from hwsim.design import BERT_BASE, evaluate_design
from hwsim.simulate import simulate
from tests.builders import tiny_artifact
from ti_qat.artifact.io import Artifact

PAGE = (Path(__file__).parents[2] / "docs" / "accelerator.md").read_text(encoding="utf-8")
TOKENS, NONZERO_FRACTION = 128, 0.6


@pytest.fixture(scope="module")
def artifact(tmp_path_factory: pytest.TempPathFactory) -> Artifact:
    return tiny_artifact(tmp_path_factory.mktemp("artifact") / "tiny")


def documented(preset: Accelerator) -> str:
    """The cells of the page's table that follow from the file."""
    buffers = f"{preset.weight_buffer_bytes / 1024:g} + {preset.activation_buffer_bytes / 1024:g} KiB"
    tables = ", ".join(f"`{name}`" for name in preset.energy_tables if not name.startswith("dram"))
    return (
        f"| `{preset.name}` | {preset.array_rows} x {preset.array_columns} {preset.dataflow.value.split('_')[0]} | "
        f"{preset.clock_hz / 1e6:g} MHz | {buffers} | {preset.dram_bandwidth_bytes_per_s / 1e9:g} GB/s, "
        f"{preset.dram_latency_ns:g} ns | {tables} | "
    )


@pytest.mark.parametrize("name", preset_names())
def test_bert_base_runs_on_it(name: str) -> None:
    point = evaluate_design(BERT_BASE, read_accelerator(name), TOKENS, NONZERO_FRACTION)
    assert 0 < point.compute_cycles <= point.cycles
    assert all(picojoules > 0 for picojoules in point.energy_pj_by_level.values())


@pytest.mark.parametrize("name", preset_names())
def test_an_artifact_runs_on_it_without_overflow(name: str, artifact: Artifact) -> None:
    report, _ = simulate(artifact, read_accelerator(name), limit=2)
    assert report.overflow_events == 0
    assert report.estimate.cycles_per_inference > 0


def test_the_classes_are_ordered_as_their_names_say() -> None:
    points = [
        evaluate_design(BERT_BASE, read_accelerator(name), TOKENS, NONZERO_FRACTION)
        for name in ("microcontroller", "wearable", "phone", "server")
    ]
    latencies = [point.latency_ms for point in points]
    assert latencies == sorted(latencies, reverse=True)
    # What its file says of it: BERT-base's weights stay, and its activations fit at this length.
    assert points[-1].weights_resident
    assert points[-1].activations_fit


@pytest.mark.parametrize("name", preset_names())
def test_it_is_named_as_its_file_and_every_field_has_a_reason(name: str) -> None:
    lines = (_PRESETS / f"{name}.toml").read_text(encoding="utf-8").splitlines()
    assert tomllib.loads("\n".join(lines))["name"] == name
    told = [i for i, line in enumerate(lines) if "=" in line and not line.startswith(("#", "name", "description"))]
    bare = [lines[i] for i in told if " # " not in lines[i] and not lines[i - 1].startswith("#")]
    assert bare == []
    assert lines[0].startswith("# ")


@pytest.mark.parametrize("name", preset_names())
def test_the_page_says_what_the_file_does(name: str) -> None:
    assert documented(read_accelerator(name)) in PAGE
