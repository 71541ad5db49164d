"""Kills processes while they save and while they train; run as a program of its own, printing what it found.

Everything is imported once, on one thread, and each process that is killed is a fork: a start costs no
import. Killed is with SIGKILL, at moments that a seeded generator draws.

    python -m tests.training.kills saving ROOT KILLS
    python -m tests.training.kills training ROOT KILLS ACCUMULATION_STEPS
"""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path

import torch
from safetensors.torch import load_file
from transformers import TrainerState

from tests.training import runs
from tests.training.models import TASK, tiny_student, tiny_teacher, tiny_tokenizer
from ti_qat.method.schedules import Method
from ti_qat.tasks.lookup import objective_of
from ti_qat.tasks.objectives import Split
from ti_qat.training.checkpoints import newest_complete
from ti_qat.training.trainer import ResumableTrainer

SEED = 7


def forked(work: Callable[[], None]) -> int:
    """Return the id of a new process that does `work` and ends."""
    child = os.fork()
    if child:
        return child
    status = 1
    try:
        work()
        status = 0
    finally:
        os._exit(status)


def killed(child: int) -> bool:
    """Kill `child`; return whether it had not ended by itself."""
    os.kill(child, signal.SIGKILL)
    return os.WIFSIGNALED(os.waitpid(child, 0)[1])


def saving(root: Path, kills: int) -> dict[str, float]:
    """Kill a process that saves one checkpoint after the other; count the kills that cost a published one."""
    work_dir = root / "saving"
    trainer = one_step_trainer(root, work_dir)
    begun_s = time.monotonic()
    trainer._save_checkpoint(trainer.model, None)
    save_s = time.monotonic() - begun_s
    moments, unusable, torn, saved = random.Random(SEED), 0, 0, 0

    def save_on() -> None:
        while True:
            trainer.state.global_step += 1
            trainer._save_checkpoint(trainer.model, None)
            os.write(writer, b"x")

    for _ in range(kills):
        reader, writer = os.pipe()
        child = forked(save_on)
        os.close(writer)
        time.sleep(moments.uniform(0.0, 4 * save_s))
        assert killed(child)
        published = trainer.state.global_step + len(os.read(reader, 1 << 16))
        os.close(reader)
        before = len(list(work_dir.glob("checkpoint-*")))
        newest = newest_complete(work_dir)
        torn += before - len(list(work_dir.glob("checkpoint-*")))
        usable = newest is not None and step_of(newest) >= published and is_usable(newest)
        unusable += not usable
        trainer.state.global_step = step_of(newest) if newest else 0
        saved = max(saved, trainer.state.global_step)
    return {"kills": kills, "unusable": unusable, "torn": torn, "saved": saved, "save_s": save_s}


def step_of(checkpoint: Path) -> int:
    return int(checkpoint.name.rpartition("-")[2])


def is_usable(checkpoint: Path) -> bool:
    """Return whether everything that a run goes on from can be read, and is of the checkpoint's step."""
    load_file(checkpoint / "model.safetensors")
    for name in ("optimizer.pt", "scheduler.pt", "rng_state.pth"):
        torch.load(checkpoint / name, weights_only=False)
    state = TrainerState.load_from_json(str(checkpoint / "trainer_state.json"))
    return state.global_step == step_of(checkpoint)


def one_step_trainer(root: Path, work_dir: Path) -> ResumableTrainer:
    """Return a trainer that has made one step, so that it has everything to save, and saved it."""
    objective, tokenizer = objective_of(TASK), tiny_tokenizer()
    rows = objective.read(root / "data", Split.TRAIN, tokenizer, 9)
    config = runs.STUDENT.model_copy(update={"epochs": 1 / 6, "checkpoint_every_steps": 1})
    student = tiny_student(tiny_teacher())
    trainer = ResumableTrainer(student, config, tokenizer, rows, rows, objective, work_dir, "saving")
    trainer.run()
    return trainer


def training(root: Path, kills: int, accumulation_steps: int) -> dict[str, float]:
    """Kill runs at random moments and let each go on; count those that end in other bits than the whole run."""
    settings = {"accumulation_steps": accumulation_steps, "restart_after_intervention": True, "dropout": 0.1}
    moments, out = random.Random(SEED + accumulation_steps), root / f"killed-{accumulation_steps}"
    whole = root / f"whole-{accumulation_steps}"

    def run(out: Path) -> Callable[[], None]:
        return lambda: runs.train(root, out, Method.TI_G, **settings) and None

    child = started(run(whole), whole)
    started_s = time.monotonic()
    assert os.waitpid(child, 0)[1] == 0
    duration_s = time.monotonic() - started_s
    done = different = resumed = 0
    while done < kills:
        child = started(run(out), out)
        time.sleep(moments.uniform(0.0, duration_s))
        done += killed(child)
        resumed += bool(list(out.with_name(out.name + ".partial").glob("checkpoint-*/complete.json")))
        assert os.waitpid(forked(run(out)), 0)[1] == 0
        different += runs.sha256(out) != runs.sha256(whole)
        shutil.rmtree(out)
    return {"kills": done, "different": different, "resumed": resumed, "run_s": duration_s}


def started(work: Callable[[], None], out: Path) -> int:
    """Return the id of a process whose run towards `out` has made its first step."""
    child = forked(work)
    while not (out.with_name(out.name + ".partial") / "training.jsonl").exists():
        time.sleep(0.001)
    return child


if __name__ == "__main__":
    torch.set_num_threads(1)
    verb, directory, *numbers = sys.argv[1:]
    begun_s = time.monotonic()
    found = {"saving": saving, "training": training}[verb](Path(directory), *map(int, numbers))
    print(json.dumps(found | {"seconds": time.monotonic() - begun_s}))
