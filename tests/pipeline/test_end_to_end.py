"""The whole pipeline on a tiny model, through the command line, killed in every stage."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from deploy.runtime import Classifier
from tests.training.models import write_data, write_pretrained
from ti_qat.artifact import io
from ti_qat.pipeline.config import read_configuration
from ti_qat.pipeline.stages import plan

pytestmark = pytest.mark.slow

CONFIG = """
[task]
name = "task.toml"
data = "data"
[model]
path = "model"
[teacher]
settings = { epochs = 3, batch_size = 4, max_length = 16, checkpoint_every_steps = 2, evaluate_every_steps = 9 }
[student]
settings = { epochs = 3, batch_size = 4, checkpoint_every_steps = 2, evaluate_every_steps = 9 }
"""
TASK = """
name = "tiny"
text_columns = ["text"]
label_column = "label"
labels = ["negative", "positive"]
metric = "accuracy"
"""


@pytest.fixture(scope="module")
def config(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("example")
    write_pretrained(folder / "model")
    write_data(folder / "data")
    (folder / "task.toml").write_text(TASK)
    (folder / "config.toml").write_text(CONFIG)
    return folder / "config.toml"


def command(config: Path, run_dir: Path) -> list[str]:
    return [sys.executable, "-m", "ti_qat", "run", str(config), "--out", str(run_dir), "--json"]


@pytest.fixture(scope="module")
def finished(config: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict]:
    run_dir = tmp_path_factory.mktemp("finished") / "run"
    done = subprocess.run(command(config, run_dir), capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return run_dir, json.loads(done.stdout)


def test_report_holds_the_names_that_scripts_read(finished: tuple[Path, dict]) -> None:
    run_dir, report = finished
    assert json.loads((run_dir / "report.json").read_text()) == report
    assert report["schema_version"] == 1
    for stage in ("teacher", "student", "simulated", "deployed"):
        assert set(report["stages"][stage]) == {"score", "bytes", "peak_rss_bytes", "latency_ms"}
        assert all(value is not None for value in report["stages"][stage].values())
    assert report["agreement"]["codes_compared"] > 0
    assert report["agreement"]["code_mismatches"] == 0
    assert report["agreement"]["isa_bit_identical"] in (True, None)  # None: one instruction set on this machine
    assert report["agreement"]["threads_bit_identical"] is True
    assert report["energy_pj_per_inference"] > 0
    assert report["cycles_per_inference"] > 0
    assert "plotly" in (run_dir / "report.html").read_text()


def test_simulated_and_deployed_scores_are_the_same_number(finished: tuple[Path, dict]) -> None:
    stages = finished[1]["stages"]
    assert stages["simulated"]["score"] == stages["deployed"]["score"]


def test_bundle_classifies_text(finished: tuple[Path, dict]) -> None:
    predictions = Classifier.load(finished[0] / "bundle")(["a good film", "dull"])
    assert [p.label in ("negative", "positive") and 0.5 <= p.score <= 1 for p in predictions] == [True, True]


def test_killed_in_every_stage_the_run_ends_in_the_same_artifact_and_bundle(
    config: Path, finished: tuple[Path, dict], tmp_path: Path
) -> None:
    run_dir = tmp_path / "run"
    stages = plan(read_configuration(config), config.parent, run_dir)
    for stage in stages:
        _kill_in(config, run_dir, stage.name)
    done = subprocess.run(command(config, run_dir), capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert io.load(run_dir / "artifact").digest == io.load(finished[0] / "artifact").digest
    for name in ("model.onnx", "model.bin"):
        assert (run_dir / "bundle" / name).read_bytes() == (finished[0] / "bundle" / name).read_bytes()


def _kill_in(config: Path, run_dir: Path, stage: str) -> None:
    """Start the run and kill it when `stage` has begun; in training, once a checkpoint is being written."""
    with subprocess.Popen(command(config, run_dir), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as run:
        record = run_dir / "stages" / f"{stage}.json"
        deadline_s = time.monotonic() + 120
        while not record.exists() or (stage in ("teacher", "student") and not _checkpointing(run_dir, stage)):
            assert run.poll() is None, f"the run ended before {stage}"
            assert time.monotonic() < deadline_s
            time.sleep(0.002)
        run.send_signal(signal.SIGKILL)
    assert "result" not in json.loads(record.read_text())


def _checkpointing(run_dir: Path, stage: str) -> bool:
    return len(list((run_dir / f"{stage}.partial").glob("checkpoint-*"))) >= 2
