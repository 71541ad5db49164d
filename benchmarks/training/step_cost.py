"""What a training step costs: full precision, distillation, and distillation with the teacher intervening.

Every step is a step of the real Trainers. The variants take turns, a few steps each, in one process, so that
a busy machine slows them all alike; only the ratios are meant to be quoted.
"""

from __future__ import annotations

import copy
import json
import shlex
import statistics
import sys
import tempfile
import time
from collections import defaultdict
from pathlib import Path

import click
import torch
from datasets import Dataset
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from transformers import (
    BertConfig,
    BertForSequenceClassification,
    PreTrainedTokenizerFast,
    TrainerCallback,
)

from deploy.runtime.machine import machine
from ti_qat.artifact.schema import Metric
from ti_qat.config import StudentConfig, TeacherConfig
from ti_qat.method.schedules import ConstantSchedule, InterventionPoint
from ti_qat.models.modeling import make_student, set_dropout
from ti_qat.recipes import calibrate
from ti_qat.tasks.text_objective import TextObjective
from ti_qat.tasks.text_task import TextTask
from ti_qat.training.intervention_trainer import InterventionTrainer
from ti_qat.training.trainer import ResumableTrainer

VOCABULARY = 30522
OBJECTIVE = TextObjective(
    TextTask(name="benchmark", text_columns=("text",), label_column="label", labels=("0", "1"), metric=Metric.ACCURACY)
)
SHAPES = {
    "minilm": {"num_hidden_layers": 6, "hidden_size": 384, "num_attention_heads": 12, "intermediate_size": 1536},
    "bert-base": {"num_hidden_layers": 12, "hidden_size": 768, "num_attention_heads": 12, "intermediate_size": 3072},
}
FULL_PRECISION, DISTILLATION = "full precision", "distillation"
POINTS = {"ti-m": InterventionPoint.ATTENTION_MAP, "ti-c": InterventionPoint.CONTEXT, "ti-o": InterventionPoint.OUTPUT}


class StepTimes(TrainerCallback):
    """Times of the steps of one Trainer, from their begin to their end, in seconds."""

    def __init__(self) -> None:
        self.times_s: list[float] = []

    def on_step_begin(self, *args: object, **kwargs: object) -> None:
        self._began_s = time.perf_counter()

    def on_step_end(self, *args: object, **kwargs: object) -> None:
        self.times_s.append(time.perf_counter() - self._began_s)


def rows(count: int, tokens: int) -> Dataset:
    ids = torch.randint(5, VOCABULARY, (count, tokens), generator=torch.Generator().manual_seed(0))
    return Dataset.from_dict(
        {"input_ids": ids.tolist(), "token_type_ids": (0 * ids).tolist(), "labels": [i % 2 for i in range(count)]}
    )


def tokenizer() -> PreTrainedTokenizerFast:
    return PreTrainedTokenizerFast(tokenizer_object=Tokenizer(WordLevel({"[PAD]": 0}, "[PAD]")), pad_token="[PAD]")


def settings(batch_size: int, steps: int) -> dict[str, object]:
    return {
        "batch_size": batch_size,
        "deterministic": False,
        "log_every_steps": steps,
        "evaluate_every_steps": 10**9,
        "checkpoint_every_steps": 10**9,
    }


def time_variants(shape: str, batch_size: int, tokens: int, rounds: int, steps: int) -> dict[str, list[float]]:
    """Return the median step time of each round, in seconds, by variant."""
    torch.manual_seed(0)
    config = BertConfig(
        vocab_size=VOCABULARY, hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0, **SHAPES[shape]
    )
    teacher = BertForSequenceClassification(config)
    data = rows(batch_size * steps, tokens)
    common = {"processor": tokenizer(), "train": data, "dev": data, "objective": OBJECTIVE, "title": "benchmark"}
    student_config = StudentConfig(**settings(batch_size, steps))
    student = make_student(teacher, student_config.quantizers())
    set_dropout(student, 0.0)
    calibrate(student, data, OBJECTIVE, common["processor"], student_config)
    found: dict[str, list[float]] = defaultdict(list)

    def run(name: str, make: object) -> None:
        with tempfile.TemporaryDirectory() as work_dir:
            trainer = make(Path(work_dir))
            times = StepTimes()
            trainer.add_callback(times)
            trainer.run()
        found[name].append(statistics.median(times.times_s[1:]))  # the first step allocates

    plain = BertForSequenceClassification(config)
    teacher_config = TeacherConfig(**settings(batch_size, steps))
    variants = {FULL_PRECISION: lambda d: ResumableTrainer(model=plain, config=teacher_config, work_dir=d, **common)}
    for name, point in {DISTILLATION: None, **POINTS}.items():
        # Copies: a Trainer's hooks stay with its models, and would add up over the rounds.
        variants[name] = lambda d, point=point: InterventionTrainer(
            teacher=copy.deepcopy(teacher),
            schedule=ConstantSchedule(point, steps),
            model=copy.deepcopy(student),
            config=student_config,
            work_dir=d,
            **common,
        )
    for done in range(rounds):
        for name, make in variants.items():
            run(name, make)
        click.echo(f"round {done + 1} of {rounds}", err=True)
    return found


def summarize(times_s: dict[str, list[float]]) -> dict[str, object]:
    """Return the ratios, paired within each round, and what was timed."""

    def ratio(over: str, under: str) -> dict[str, float]:
        ratios = [a / b for a, b in zip(times_s[over], times_s[under], strict=True)]
        return {"median": statistics.median(ratios), "smallest": min(ratios), "largest": max(ratios)}

    ratios = {f"{name}/{DISTILLATION}": ratio(name, DISTILLATION) for name in POINTS}
    ratios |= {f"{name}/{FULL_PRECISION}": ratio(name, FULL_PRECISION) for name in (DISTILLATION, *POINTS)}
    return {
        # The dearest of the variants stands for all.
        "qat_step_over_fp32_step": max(ratios[f"{n}/{FULL_PRECISION}"]["median"] for n in (DISTILLATION, *POINTS)),
        "intervention_over_kd_step": max(ratios[f"{n}/{DISTILLATION}"]["median"] for n in POINTS),
        "ratios": ratios,
        "step_ms": {
            name: {"median": 1e3 * statistics.median(t), "smallest": 1e3 * min(t), "largest": 1e3 * max(t)}
            for name, t in times_s.items()
        },
    }


@click.command()
@click.option("--shape", type=click.Choice(list(SHAPES)), default="minilm", show_default=True)
@click.option("--batch-size", default=32, show_default=True)
@click.option("--tokens", default=64, show_default=True, help="Tokens of every row.")
@click.option("--rounds", default=7, show_default=True, help="Turns that each variant takes.")
@click.option("--steps", default=6, show_default=True, help="Steps of a turn; the first is not counted.")
@click.option("--threads", default=0, show_default=True, help="torch's threads; 0: its own choice.")
@click.option("--out", type=click.Path(path_type=Path), default=Path(__file__).with_name("summary.json"))
def main(shape: str, batch_size: int, tokens: int, rounds: int, steps: int, threads: int, out: Path) -> None:
    """Time the steps and write the summary."""
    if threads:
        torch.set_num_threads(threads)
    summary = summarize(time_variants(shape, batch_size, tokens, rounds, steps))
    summary |= {
        "shape": shape,
        "batch_size": batch_size,
        "tokens": tokens,
        "rounds": rounds,
        "steps_of_a_round": steps - 1,
        "command": shlex.join(["python", "-m", "benchmarks.training.step_cost", *sys.argv[1:]]),
        "machine": machine() | {"torch": torch.__version__, "threads": torch.get_num_threads()},
    }
    out.write_text(json.dumps(summary, indent=2) + "\n", encoding="utf-8")
    for name, step in summary["step_ms"].items():
        click.echo(f"{name:16} {step['median']:8.1f} ms ({step['smallest']:.1f} to {step['largest']:.1f})")
    for name in ("qat_step_over_fp32_step", "intervention_over_kd_step"):
        click.echo(f"{name}: {summary[name]:.3f}")


if __name__ == "__main__":
    main()
