"""Two processes on one machine train what one trains: `torchrun -m ti_qat`, with gloo on the CPU."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from tests.training import runs
from ti_qat.method.schedules import Method
from ti_qat.models import model_directory

REPOSITORY = Path(__file__).parents[2]
# See test_accumulation: nothing that is 0 but for rounding may move a weight.
SETTINGS = {"adam_epsilon": 1e-3, "intervention_fraction": 0.75, "restart_after_intervention": True}


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    return runs.prepare(tmp_path_factory.mktemp("processes"))


def two_processes(verb, out, *arguments, **changes):
    """Return the finished process of `torchrun`, two workers on this machine."""
    settings = [f"--set={key}={json.dumps(value)}" for key, value in (runs.SHORT | changes).items()]
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2", "-m", "ti_qat"]
    command += [verb, *arguments, *settings, "--json", "--out", str(out)]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    return subprocess.run(command, cwd=REPOSITORY, env=environment, capture_output=True, text=True, check=False)


def student_arguments(root, method):
    return ("--teacher", root / "teacher", "--task", root / "task.toml", "--data", root / "data", "--method", method)


@pytest.mark.slow
@pytest.mark.parametrize(("method", "accumulation_steps"), [(Method.TI_G, 1), (Method.TI_O, 2), (Method.NONE, 1)])
def test_two_processes_train_the_student_of_one(root, tmp_path, method, accumulation_steps):
    runs.train(root, tmp_path / "one", method, calibration_batches=2, **SETTINGS)
    settings = SETTINGS | {"accumulation_steps": accumulation_steps, "calibration_batches": 2}
    result = two_processes("train", tmp_path / "two", *map(str, student_arguments(root, method)), **settings)
    assert result.returncode == 0, result.stderr
    assert json.loads(result.stdout)["steps"] == runs.STEPS  # one line: the main process's
    one, two = (model_directory.load(tmp_path / name).model.state_dict() for name in ("one", "two"))
    for name, weight in one.items():
        # Twelve steps whose gradients are float32 sums in another order.
        torch.testing.assert_close(two[name], weight, rtol=0, atol=2e-5, msg=name)
    losses = [[line["loss"] for line in runs.curve(tmp_path / name)] for name in ("one", "two")]
    assert losses[1] == pytest.approx(losses[0], rel=1e-4)
    assert not (tmp_path / "two.partial").exists()


@pytest.mark.slow
def test_a_batch_that_two_processes_cannot_share_is_refused(root, tmp_path):
    result = two_processes(
        "train", tmp_path / "two", *map(str, student_arguments(root, Method.KD)), accumulation_steps=4
    )
    assert result.returncode != 0
    assert "expected a multiple of accumulation_steps times processes, 4 x 2, found 4" in result.stderr
    assert not (tmp_path / "two.partial").exists()


@pytest.mark.slow
def test_two_processes_teach(root, tmp_path):
    arguments = ("--model", root / "model", "--task", root / "task.toml", "--data", root / "data", "--set=max_length=9")
    result = two_processes("teach", tmp_path / "teacher", *map(str, arguments))
    assert result.returncode == 0, result.stderr
    assert model_directory.load(tmp_path / "teacher").student is None
