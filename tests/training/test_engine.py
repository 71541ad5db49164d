"""What a user relies on of the engine beside its arithmetic: stages, precision, reports, checkpoints, resumption."""

import json
import re
import signal
import subprocess
import sys
import time

import pytest
import torch
from transformers import TrainerCallback

from tests.training import runs
from tests.training.stops import KilledError, kill_at
from ti_qat.config import GradientClipping, Precision
from ti_qat.errors import ConfigurationError, TrainingError
from ti_qat.method.schedules import Method
from ti_qat.models import model_directory
from ti_qat.models.modeling import ATTENTION_NAME
from ti_qat.quantization.layers import TernaryLinear
from ti_qat.training import trainer
from ti_qat.training.checkpoints import is_complete, newest_complete
from ti_qat.training.trainer import ResumableTrainer

TWO_STAGES = {"restart_after_intervention": True, "dropout": 0.1}


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    return runs.prepare(tmp_path_factory.mktemp("engine"))


def killed_at(root, out, monkeypatch, step, **settings):
    with monkeypatch.context() as patch, pytest.raises(KilledError):
        kill_at(patch, step)
        runs.train(root, out, **settings)
    return out.with_name(out.name + ".partial")


@pytest.mark.parametrize("step", [5, 6, 7, 11])
def test_a_run_killed_around_the_border_of_its_stages_ends_in_the_same_bits(root, tmp_path, monkeypatch, step):
    runs.train(root, tmp_path / "whole", **TWO_STAGES)
    killed_at(root, tmp_path / "killed", monkeypatch, step, checkpoint_every_steps=2, **TWO_STAGES)
    runs.train(root, tmp_path / "killed", checkpoint_every_steps=2, **TWO_STAGES)
    assert runs.sha256(tmp_path / "killed") == runs.sha256(tmp_path / "whole")


def test_a_resumed_run_says_so_once_and_from_where(root, tmp_path, monkeypatch, capsys):
    killed_at(root, tmp_path / "student", monkeypatch, 8)
    capsys.readouterr()
    runs.train(root, tmp_path / "student")
    assert capsys.readouterr().err.count(f"student (ti-g): resuming from step 6 of {runs.STEPS}\n") == 1
    runs.train(root, tmp_path / "other")
    assert "resuming" not in capsys.readouterr().err


def test_an_intervention_that_comes_to_no_step_is_told(root, tmp_path, caplog):
    runs.train(root, tmp_path / "student", epochs=0.1)
    assert "ti-g: the teacher intervenes at no step of 1: " in caplog.text
    caplog.clear()
    runs.train(root, tmp_path / "gradual", Method.GRADUAL_LAMBDA, gradual_lambda_steps=24)
    assert "gradual-lambda: lambda ends at 0.46 and not at 1, for the run has 12 steps" in caplog.text


@pytest.mark.slow
def test_interrupted_from_the_keyboard_the_command_says_where_it_goes_on(root, tmp_path):
    settings = [f"--set={key}={value}" for key, value in runs.SHORT.items() if key != "epochs"]
    base = [sys.executable, "-m", "ti_qat", "teach", "--model", str(root / "model"), "--data", str(root / "data")]
    base += ["--task", str(root / "task.toml"), "--out", str(tmp_path / "out")]
    base += [*settings, "--set=max_length=9", "--set=epochs=5000"]
    run = subprocess.Popen(base, stderr=subprocess.PIPE, text=True)
    deadline_s = time.monotonic() + 60
    while run.poll() is None and not list(tmp_path.glob("out.partial/checkpoint-*/complete.json")):
        assert time.monotonic() < deadline_s
        time.sleep(0.02)
    run.send_signal(signal.SIGINT)
    try:
        said = run.communicate(timeout=60)[1]
    finally:
        run.kill()  # where the tests run as a shell's background job, SIGINT is ignored from the start
    kept = f"the work so far is kept in {tmp_path / 'out'}.partial, and the same command goes on from step "
    assert run.returncode == 130
    assert re.fullmatch(re.escape(f"ti-qat: interrupted; {kept}") + r"\d+\n", said), said


def test_the_second_stage_rises_anew_with_a_new_optimiser(root, tmp_path, monkeypatch):
    counts = []

    class Counts(TrainerCallback):
        def on_optimizer_step(self, args, state, control, optimizer, **kwargs):
            counts.append({int(values["step"]) for values in optimizer.state.values()})

    original = ResumableTrainer.run

    def run(self):
        self.add_callback(Counts())
        original(self)

    monkeypatch.setattr(ResumableTrainer, "run", run)
    runs.train(root, tmp_path / "two", Method.TI_M, warmup_fraction=0.5, learning_rate=6e-4, **TWO_STAGES)
    # Six steps up and down, twice: the log tells the rate that the step was made with.
    stage = [0.0, 2e-4, 4e-4, 6e-4, 4e-4, 2e-4]
    assert [line["learning_rate"] for line in runs.curve(tmp_path / "two")] == pytest.approx(stage + stage, abs=1e-12)
    assert counts == [{step} for step in (1, 2, 3, 4, 5, 6, 1, 2, 3, 4, 5, 6)]


@pytest.mark.parametrize("method", [Method.KD, Method.NONE])
def test_a_method_without_intervention_has_one_stage(root, tmp_path, method):
    runs.train(root, tmp_path / "restart", method, **TWO_STAGES)
    runs.train(root, tmp_path / "plain", method, dropout=0.1)
    assert runs.sha256(tmp_path / "restart") == runs.sha256(tmp_path / "plain")


@pytest.mark.parametrize(
    "changes",
    [
        {"adam_epsilon": 1e-2},
        {"adam_bias_correction": False},
        {"max_gradient_norm": 1e-6},
        {"gradient_clipping": GradientClipping.PER_PARAMETER, "max_gradient_norm": 0.1},
    ],
)
def test_every_setting_of_the_optimiser_reaches_teacher_and_student(root, tmp_path, changes):
    runs.train(root, tmp_path / "student", Method.NONE)
    runs.train(root, tmp_path / "changed", Method.NONE, **changes)
    assert runs.sha256(tmp_path / "student") != runs.sha256(tmp_path / "changed")
    runs.teach(root, tmp_path / "teacher", **changes)
    assert runs.sha256(tmp_path / "teacher") != runs.sha256(root / "teacher")


def test_bfloat16_is_for_the_teacher_and_leaves_every_code_of_the_student_exact(root, tmp_path, monkeypatch):
    dtypes = {"teacher": set(), "student": set()}
    monkeypatch.setattr(torch.nn.Linear, "forward", recording(torch.nn.Linear.forward, dtypes["teacher"]))
    monkeypatch.setattr(TernaryLinear, "forward", recording(TernaryLinear.forward, dtypes["student"]))
    runs.train(root, tmp_path / "student", Method.TI_G, precision=Precision.BFLOAT16)
    assert dtypes == {"teacher": {torch.bfloat16, torch.float32}, "student": {torch.float32}}
    state = model_directory.load(tmp_path / "student").model.state_dict()
    assert {tensor.dtype for tensor in state.values() if tensor.is_floating_point()} == {torch.float32}
    runs.train(root, tmp_path / "float32", Method.TI_G)
    losses = [[line["loss"] for line in runs.curve(tmp_path / name)] for name in ("student", "float32")]
    assert losses[0] != losses[1]
    # Eight bits of mantissa in the teacher's values: a per cent of a loss.
    assert losses[0][0] == pytest.approx(losses[1][0], rel=0.02)


def recording(forward, found):
    def recorded(self, x):
        result = forward(self, x)
        if self.training or not isinstance(self, TernaryLinear):
            found.add(result.dtype)
        return result

    return recorded


def test_a_teacher_is_fine_tuned_in_bfloat16_and_kept_in_float32(root, tmp_path):
    runs.teach(root, tmp_path / "teacher", precision=Precision.BFLOAT16)
    assert {p.dtype for p in model_directory.load(tmp_path / "teacher").model.parameters()} == {torch.float32}
    assert runs.sha256(tmp_path / "teacher") != runs.sha256(root / "teacher")


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        ("tensorbord", r"report_to: expected names out of none, .*tensorboard.*, found 'tensorbord'"),
        ("none,wandb", "report_to: expected names out of none, .*found 'none'"),
        ("neptune", "report_to: 'neptune' needs a package that is not installed"),
    ],
)
def test_a_reporter_that_cannot_be_used_is_refused_before_anything_is_written(root, tmp_path, names, expected):
    with pytest.raises(ConfigurationError, match=expected):
        runs.train(root, tmp_path / "student", report_to=names)
    assert not list(tmp_path.iterdir())


def test_tensorboard_reads_the_curves_beside_the_model_and_a_resumed_run_adds_to_them(root, tmp_path, monkeypatch):
    pytest.importorskip("tensorboard", reason="TensorBoard is not installed: pip install tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator  # noqa: PLC0415

    settings = {"report_to": "tensorboard"}
    killed_at(root, tmp_path / "student", monkeypatch, 8, **settings)
    runs.train(root, tmp_path / "student", **settings)
    events = EventAccumulator(str(tmp_path / "student" / "runs"))
    events.Reload()
    logged = {event.step: event.value for event in events.Scalars("train/loss")}
    # TensorBoard keeps float32.
    assert logged == pytest.approx({line["step"]: line["loss"] for line in runs.curve(tmp_path / "student")}, rel=1e-6)


STAND_IN_FOR_TENSORBOARDX = """
import json, pathlib

class SummaryWriter:
    def __init__(self, log_dir):
        self.file = pathlib.Path(log_dir) / "scalars.jsonl"
        self.file.parent.mkdir(parents=True, exist_ok=True)
    def add_text(self, *args): pass
    def add_scalar(self, name, value, step):
        with self.file.open("a") as stream:
            stream.write(json.dumps([name, value, step]) + "\\n")
    def flush(self): pass
    def close(self): pass
"""


def test_what_a_reporter_writes_ends_beside_the_model(root, tmp_path, monkeypatch):
    """With a stand-in for tensorboardX, which transformers takes where TensorBoard's own writer is missing."""
    (tmp_path / "tensorboardX.py").write_text(STAND_IN_FOR_TENSORBOARDX)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", None)
    killed_at(root, tmp_path / "student", monkeypatch, 8, report_to="tensorboard")
    runs.train(root, tmp_path / "student", report_to="tensorboard")
    lines = [json.loads(line) for line in (tmp_path / "student" / "runs" / "scalars.jsonl").read_text().splitlines()]
    logged = {step: value for name, value, step in lines if name == "train/loss"}
    assert logged == {line["step"]: line["loss"] for line in runs.curve(tmp_path / "student")}


@pytest.mark.parametrize(
    "name", ["optimizer.pt", "scheduler.pt", "rng_state.pth", "trainer_state.json", "model.safetensors"]
)
def test_a_checkpoint_without_one_of_its_files_is_not_used(root, tmp_path, monkeypatch, name):
    work_dir = killed_at(root, tmp_path / "student", monkeypatch, 8)
    assert newest_complete(work_dir) == work_dir / "checkpoint-6"
    (work_dir / "checkpoint-6" / name).unlink()
    assert not is_complete(work_dir / "checkpoint-6")
    assert newest_complete(work_dir) == work_dir / "checkpoint-3"


def test_weights_that_are_not_finite_stop_the_run_before_they_are_saved(root, tmp_path, monkeypatch):
    class Spoiler(TrainerCallback):
        def on_step_end(self, args, state, control, model, **kwargs):
            if state.global_step == 6:
                with torch.no_grad():
                    next(model.parameters()).fill_(torch.inf)

    original = ResumableTrainer.run

    def run(self):
        self.add_callback(Spoiler())
        original(self)

    with monkeypatch.context() as patch, pytest.raises(TrainingError, match=r"after step 6: .* is not finite"):
        patch.setattr(ResumableTrainer, "run", run)
        runs.train(root, tmp_path / "student")
    work_dir = tmp_path / "student.partial"
    assert newest_complete(work_dir) == work_dir / "checkpoint-3"
    runs.train(root, tmp_path / "student")
    runs.train(root, tmp_path / "whole")
    assert runs.sha256(tmp_path / "student") == runs.sha256(tmp_path / "whole")


def test_a_process_takes_one_of_several_gpus(tmp_path, monkeypatch):
    class SeveralGpus(trainer.TrainingArguments):
        def __post_init__(self):
            super().__post_init__()
            self._n_gpu = 4  # what transformers counts, and would give to DataParallel

    monkeypatch.setattr(trainer, "TrainingArguments", SeveralGpus)
    found = trainer.arguments(runs.STUDENT, 12, tmp_path)
    assert (found.n_gpu, found.train_batch_size) == (1, runs.STUDENT.batch_size)


def test_a_launcher_that_would_split_the_model_is_refused(root, tmp_path, monkeypatch):
    monkeypatch.setenv("ACCELERATE_USE_FSDP", "true")
    with pytest.raises(ConfigurationError, match="expected DDP, whole models in every process, found FSDP"):
        runs.train(root, tmp_path / "student")
    assert not list(tmp_path.iterdir())


def test_another_number_of_processes_does_not_go_on_with_a_run(root, tmp_path, monkeypatch):
    work_dir = killed_at(root, tmp_path / "student", monkeypatch, 4)
    settings = json.loads((work_dir / "settings.json").read_text())
    (work_dir / "settings.json").write_text(json.dumps(settings | {"processes": 2}))
    with pytest.raises(TrainingError, match=r"other settings \(processes\)"):
        runs.train(root, tmp_path / "student")


def test_a_reloaded_student_attends_through_its_quantisers_and_a_teacher_as_transformers_does(root, tmp_path):
    """config.json does not say which attention a model was trained with."""
    runs.train(root, tmp_path / "student")
    student = model_directory.load(tmp_path / "student").model
    assert student.config._attn_implementation == ATTENTION_NAME
    teacher = model_directory.load(root / "teacher").model
    assert teacher.config._attn_implementation != ATTENTION_NAME
    for directory in (tmp_path / "student", root / "teacher"):
        assert "attn_implementation" not in (directory / "config.json").read_text()
