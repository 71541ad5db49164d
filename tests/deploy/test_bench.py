"""`ti-qat bench` and the int8 peak it holds a bundle against."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner

from deploy.bundle import read_bundle
from deploy.export import pack
from deploy.runtime import benchmark as benchmark_module
from deploy.runtime.benchmark import benchmark
from deploy.runtime.int8_peak import int8_peak_macs_per_second
from deploy.runtime.session import supported_isas
from tests.builders import tiny_artifact
from ti_qat.artifact.io import Artifact
from ti_qat.cli import main


@pytest.fixture(scope="module")
def packed(tmp_path_factory: pytest.TempPathFactory) -> tuple[Artifact, Path]:
    folder = tmp_path_factory.mktemp("packed")
    artifact = tiny_artifact(folder / "artifact")
    pack(artifact, folder / "bundle")
    return artifact, folder / "bundle"


def _macs(artifact: Artifact, batch: int, tokens: int) -> int:
    """Counted by hand for two layers: the second one computes queries and what follows for the first token alone."""
    shape = artifact.encoder.shape
    h, f = shape.hidden, shape.feed_forward
    first = tokens * (4 * h * h + 2 * h * f) + 2 * tokens**2 * h
    second = tokens * 2 * h * h + 2 * h * h + 2 * h * f + 2 * tokens * h
    pooler = h * h
    return batch * (first + second + pooler)


def test_a_bundle_counts_the_multiply_accumulates_of_any_shape(packed: tuple[Artifact, Path]) -> None:
    artifact, bundle = packed
    counts = read_bundle(bundle).manifest.macs
    assert counts is not None
    for batch, tokens in ((1, 1), (1, 16), (3, 7)):
        assert counts.of(batch, tokens) == _macs(artifact, batch, tokens)


def test_bench_measures(packed: tuple[Artifact, Path]) -> None:
    arguments = ["bench", str(packed[1]), "--threads", "1", "--seq-len", "5", "--batch", "2", "--calls", "4"]
    found = json.loads(CliRunner().invoke(main, [*arguments, "--json"]).stdout)
    assert (found["threads"], found["seq_len"], found["batch"], found["calls"]) == (1, 5, 2, 4)
    assert 0 < found["latency_ms_p50"] <= found["latency_ms_p90"] <= found["latency_ms_p99"]
    assert found["peak_rss_bytes"] > 0
    assert found["load_ms"] > 0
    assert found["macs_per_call"] == _macs(packed[0], 2, 5)
    rate = found["macs_per_call"] / found["latency_ms_p50"] * 1e3
    assert found["int8_peak_fraction"] == pytest.approx(rate / found["int8_peak_macs_per_second"])
    assert "roofline: 0.000 G multiply-accumulates a call, int8 peak" in CliRunner().invoke(main, arguments).stdout


def test_a_length_that_the_bundle_does_not_take_is_refused(packed: tuple[Artifact, Path]) -> None:
    done = CliRunner().invoke(main, ["bench", str(packed[1]), "--seq-len", "17"])
    assert (done.exit_code, done.stderr) == (2, "ti-qat: seq-len: expected 1 to 16, found 17\n")


def test_there_is_no_roofline_without_counts_or_without_the_library(
    packed: tuple[Artifact, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(benchmark_module, "int8_peak_macs_per_second", lambda isa, threads: None)
    assert benchmark(packed[1], calls=1).int8_peak_fraction is None
    manifest = json.loads((packed[1] / "bundle.json").read_text())
    earlier = tmp_path / "bundle"
    earlier.mkdir()
    for file in packed[1].iterdir():
        (earlier / file.name).write_bytes(file.read_bytes())
    (earlier / "bundle.json").write_text(json.dumps({k: v for k, v in manifest.items() if k != "macs"}))
    assert benchmark(earlier, calls=1).macs_per_call is None
    assert "roofline" not in CliRunner().invoke(main, ["bench", str(earlier), "--calls", "1"]).stdout


def test_wider_instructions_have_a_higher_int8_peak() -> None:
    peaks = [int8_peak_macs_per_second(isa, 1) for isa in supported_isas()]
    assert all(peak is not None and peak > 1e7 for peak in peaks)
    assert peaks == sorted(peaks)
    assert int8_peak_macs_per_second("neon9", 1) is None
