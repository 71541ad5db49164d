"""SIGKILL while saving and while training, at random moments, in processes of their own."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.training import runs

REPOSITORY = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    return runs.prepare(tmp_path_factory.mktemp("kills"))


def kills(*arguments):
    """Run `tests.training.kills`; return what it found, which pytest's -s shows."""
    command = [sys.executable, "-m", "tests.training.kills", *map(str, arguments)]
    # A fork has only the thread that forked: there must be no other.
    environment = os.environ | {"OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1", "TOKENIZERS_PARALLELISM": "false"}
    result = subprocess.run(command, cwd=REPOSITORY, env=environment, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr
    line = result.stdout.splitlines()[-1]
    print(*arguments[:1], line)
    return json.loads(line)


@pytest.mark.slow
def test_two_hundred_kills_while_saving_leave_no_unusable_checkpoint(root):
    found = kills("saving", root, 200)
    assert (found["kills"], found["unusable"]) == (200, 0)
    assert found["torn"] > 50, "too few kills came while a checkpoint was being written"


@pytest.mark.slow
@pytest.mark.parametrize("accumulation_steps", [1, 2, 4])
def test_twenty_killed_runs_end_in_the_bits_of_a_whole_one(root, accumulation_steps):
    found = kills("training", root, 20, accumulation_steps)
    assert (found["kills"], found["different"]) == (20, 0)
    assert found["resumed"] >= 5, "too few runs had a checkpoint to go on from"
