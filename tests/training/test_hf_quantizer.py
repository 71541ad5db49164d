"""Students through transformers' own `from_pretrained`, with ti_qat imported and without."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoModel, AutoModelForSequenceClassification, Trainer, TrainingArguments

from tests.training.models import tiny_batch, tiny_student, tiny_teacher
from tests.training.tiny_families import tiny_inputs, tiny_model, tiny_student_of
from ti_qat.artifact.packing import packed_width
from ti_qat.config import WeightQuantizer
from ti_qat.errors import ConfigurationError, TrainingError
from ti_qat.hf_quantizer import ATTENTION_NAME
from ti_qat.models.families import FAMILIES
from ti_qat.models.stored_student import stored_state
from ti_qat.quantization.packed_weights import pack, ternary_layers

WEIGHTS = "model.safetensors"
QUERY = "bert.encoder.layer.0.attention.self.query.weight"

both_forms = pytest.mark.parametrize("packed", [False, True], ids=["latent", "packed"])


def write(student, directory, packed):
    """Save as `ti_qat.models.model_directory` does."""
    if packed:
        pack(student)
    student.save_pretrained(directory, state_dict=stored_state(student), save_original_format=False)
    return directory


@both_forms
@pytest.mark.parametrize("family", list(FAMILIES))
def test_from_pretrained_gives_the_student_to_the_bit(family, packed, tmp_path):
    inputs = tiny_inputs(family)
    student = tiny_student_of(tiny_model(family), inputs)
    with torch.no_grad():
        expected = student(**inputs).logits
    write(student, tmp_path, packed)
    loaded, found = type(student).from_pretrained(tmp_path, output_loading_info=True)
    assert not found["missing_keys"] and not found["unexpected_keys"]
    with torch.no_grad():
        assert torch.equal(loaded(**inputs).logits, expected)
    for (name, ours), (_, theirs) in zip(loaded.named_buffers(), student.named_buffers(), strict=True):
        assert torch.equal(ours, theirs), name


@both_forms
@pytest.mark.parametrize("settings", [
    {"weight_quantizer": WeightQuantizer.LEARNED},
    {"weight_quantizer": WeightQuantizer.MEAN_ABS, "linear_weights": "per_tensor", "word_embedding": "per_tensor"},
    {"activations": "dynamic_per_token"},
    {"activation_range": "ema"},
], ids=str)  # fmt: skip
def test_every_quantizer_is_loaded_as_it_was(settings, packed, tmp_path):
    student = tiny_student(tiny_teacher(), **settings)
    expected = student(**tiny_batch()).logits
    loaded = AutoModelForSequenceClassification.from_pretrained(write(student, tmp_path, packed))
    assert torch.equal(loaded(**tiny_batch()).logits, expected)


def test_the_attention_function_is_ours_though_config_json_does_not_name_it(tmp_path):
    write(tiny_student(tiny_teacher()), tmp_path, packed=False)
    assert "attn_implementation" not in (tmp_path / "config.json").read_text()
    assert AutoModelForSequenceClassification.from_pretrained(tmp_path).config._attn_implementation == ATTENTION_NAME
    with pytest.raises(ConfigurationError, match=r"attn_implementation: .*'ti_qat', found 'sdpa'"):
        AutoModelForSequenceClassification.from_pretrained(tmp_path, attn_implementation="sdpa")


def test_another_number_format_is_refused(tmp_path):
    write(tiny_student(tiny_teacher()), tmp_path, packed=False)
    with pytest.raises(ConfigurationError, match=r"dtype: .*float32, found torch.bfloat16"):
        AutoModelForSequenceClassification.from_pretrained(tmp_path, dtype=torch.bfloat16)


@both_forms
def test_the_encoder_alone_is_loaded_by_auto_model(packed, tmp_path):
    student = tiny_student(tiny_teacher())
    expected = student.bert(**tiny_batch()).pooler_output
    loaded = AutoModel.from_pretrained(write(student, tmp_path, packed))
    assert torch.equal(loaded(**tiny_batch()).pooler_output, expected)


@both_forms
def test_what_was_loaded_is_saved_the_same_again(packed, tmp_path):
    write(tiny_student(tiny_teacher()), tmp_path / "first", packed)
    AutoModelForSequenceClassification.from_pretrained(tmp_path / "first").save_pretrained(tmp_path / "second")
    for name in (WEIGHTS, "config.json"):
        assert (tmp_path / "second" / name).read_bytes() == (tmp_path / "first" / name).read_bytes()


def test_a_packed_checkpoint_holds_two_bits_a_weight_and_no_float_one(tmp_path):
    student = tiny_student(tiny_teacher())
    shapes = {name: layer.weight.shape for name, layer in ternary_layers(student).items()}
    tensors = load_file(write(student, tmp_path, packed=True) / WEIGHTS)
    for name, (rows, width) in shapes.items():
        stored = tensors[f"{name}.weight"]
        assert stored.dtype == torch.uint8 and stored.shape == (rows, packed_width(width))


def test_a_missing_scale_is_an_error_not_a_fresh_one(tmp_path):
    write(tiny_student(tiny_teacher()), tmp_path, packed=False)
    tensors = load_file(tmp_path / WEIGHTS)
    del tensors["bert.pooler.dense.input_quantizer.log2_scale"]
    save_file(tensors, tmp_path / WEIGHTS, metadata={"format": "pt"})
    with pytest.raises(TrainingError, match=r"bert\.pooler\.dense\.input_quantizer\.log2_scale, found none"):
        AutoModelForSequenceClassification.from_pretrained(tmp_path)


def test_a_latent_student_trains_in_any_loop_and_a_packed_one_in_none(tmp_path):
    arguments = TrainingArguments(tmp_path / "out", use_cpu=True, report_to="none")
    student = tiny_student(tiny_teacher())
    latent = AutoModelForSequenceClassification.from_pretrained(write(student, tmp_path / "latent", packed=False))
    Trainer(latent, arguments)
    latent.train()(**tiny_batch(), labels=torch.tensor([0, 1, 0])).loss.backward()
    assert latent.get_parameter(QUERY).grad.abs().sum() > 0
    packed = AutoModelForSequenceClassification.from_pretrained(write(student, tmp_path / "packed", packed=True))
    with pytest.raises(TrainingError, match="a packed student cannot be trained"):
        packed.train()
    with pytest.raises(ValueError, match="fine-tun"):
        Trainer(packed, arguments)


def run(code, *arguments):
    """Run a process of its own that has not imported ti_qat, outside the repository."""
    command = [sys.executable, "-c", code, *map(str, arguments)]
    return subprocess.run(command, cwd="/", capture_output=True, text=True, check=False)


WITHOUT = """
import sys
from transformers import AutoModelForSequenceClassification
assert not any(name.startswith("ti_qat") for name in sys.modules)
model = AutoModelForSequenceClassification.from_pretrained(sys.argv[1], ignore_mismatched_sizes=sys.argv[2] == "yes")
"""


@pytest.mark.slow
@both_forms
def test_without_ti_qat_a_student_is_refused(packed, tmp_path):
    write(tiny_student(tiny_teacher()), tmp_path, packed)
    done = run(WITHOUT, tmp_path, "no")
    assert done.returncode == 1 and "ignore_mismatched_sizes" in done.stderr.splitlines()[-1]


@pytest.mark.slow
@both_forms
def test_without_ti_qat_not_even_a_caller_who_ignores_shapes_gets_the_weights(packed, tmp_path):
    student = tiny_student(tiny_teacher())
    names = [f"{name}.weight" for name in ternary_layers(student)]
    latent = {name: student.get_parameter(name).detach().clone() for name in names}
    write(student, tmp_path / "student", packed)
    save_file(latent, tmp_path / "latent.safetensors")
    code = (
        WITHOUT
        + """
from safetensors.torch import load_file
for name, weight in load_file(sys.argv[3]).items():
    assert not model.get_parameter(name).equal(weight), name
"""
    )
    done = run(code, tmp_path / "student", "yes", tmp_path / "latent.safetensors")
    assert done.returncode == 0, done.stderr
    assert all(name in done.stderr for name in ("MISMATCH", "Unknown quantization type, got ti_qat"))


@pytest.mark.slow
@pytest.mark.parametrize("order", ["import ti_qat, transformers", "import transformers, ti_qat",
                                   "import transformers.modeling_utils, ti_qat"])  # fmt: skip
def test_importing_ti_qat_is_enough_in_either_order(order, tmp_path):
    write(tiny_student(tiny_teacher()), tmp_path, packed=True)
    code = f"""
import sys
sys.path.insert(0, sys.argv[2])
{order}
model = transformers.AutoModelForSequenceClassification.from_pretrained(sys.argv[1])
assert type(model.bert.pooler.dense).__name__ == "TernaryLinear"
"""
    done = run(code, tmp_path, Path(__file__).parents[2])
    assert done.returncode == 0, done.stderr


def test_importing_ti_qat_imports_nothing_but_the_standard_library():
    code = """
import sys
sys.path.insert(0, sys.argv[1])
before = set(sys.modules)
import ti_qat
ours = {name for name in set(sys.modules) - before if name.split(".")[0] not in sys.stdlib_module_names}
assert ours == {"ti_qat", "ti_qat.registration"}, ours
"""
    done = run(code, Path(__file__).parents[2])
    assert done.returncode == 0, done.stderr


def test_config_json_says_how_a_student_is_quantized(tmp_path):
    write(tiny_student(tiny_teacher(), weight_quantizer=WeightQuantizer.MEAN_ABS), tmp_path, packed=True)
    entry = json.loads((tmp_path / "config.json").read_text())["quantization_config"]
    assert entry["quant_method"] == "ti_qat" and entry["packed"]
    assert entry["quantizers"]["weight_quantizer"] == "mean_abs"
