import pytest
import torch
from transformers import BertConfig, DistilBertConfig

from tests.training.models import tiny_batch, tiny_student, tiny_teacher
from ti_qat.artifact.encoder import OpKind, build_encoder
from ti_qat.artifact.schema import ActivationScaling, Granularity, Quantization
from ti_qat.config import WeightQuantizer
from ti_qat.errors import UnsupportedModelError
from ti_qat.modeling import (
    attach_taps,
    encoder_shape,
    full_precision_weights,
    require_served,
    static_quantizers,
    ternary_linears,
)
from ti_qat.quantizers import Mode, activation_mode


@pytest.fixture
def teacher():
    return tiny_teacher()


def test_with_everything_off_the_student_is_transformers_own_model(teacher):
    teacher.set_attn_implementation("eager")
    student = tiny_student(teacher)
    with torch.no_grad(), full_precision_weights(student), activation_mode(student, Mode.OFF):
        found = student(**tiny_batch(), output_hidden_states=True)
        expected = teacher(**tiny_batch(), output_hidden_states=True)
    assert torch.equal(found.logits, expected.logits)
    for ours, theirs in zip(found.hidden_states, expected.hidden_states, strict=True):
        assert torch.equal(ours, theirs)


def test_tapping_leaves_the_teacher_as_it_is(teacher):
    teacher.set_attn_implementation("eager")
    with torch.no_grad():
        expected = teacher(**tiny_batch()).logits
        taps = attach_taps(teacher)
        assert torch.equal(teacher(**tiny_batch()).logits, expected)
    assert len(taps) == 2
    assert taps[1].scores.shape == (3, 3, 7, 7)


@pytest.mark.parametrize("activations", list(ActivationScaling))
def test_padding_does_not_change_a_row(teacher, activations):
    student = tiny_student(teacher, activations)
    batch = tiny_batch()
    with torch.no_grad():
        together = student(**batch).logits
        for row, length in enumerate(batch["attention_mask"].sum(-1).tolist()):
            alone = student(**{name: tensor[row : row + 1, :length] for name, tensor in batch.items()}).logits
            torch.testing.assert_close(together[row : row + 1], alone, rtol=1e-4, atol=1e-4)


def test_padded_keys_get_no_attention(teacher):
    student = tiny_student(teacher)
    taps = attach_taps(student)
    with torch.no_grad():
        student(**tiny_batch())
    assert taps[0].probabilities[1, :, :, 4:].abs().max() == 0
    assert taps[0].probabilities[2, :, :, 0].min() == 1


@pytest.mark.parametrize("weights", list(Granularity))
@pytest.mark.parametrize("activations", list(ActivationScaling))
def test_names_and_shapes_are_those_of_the_artifact(teacher, weights, activations):
    student = tiny_student(teacher, activations, weights)
    quantization = Quantization(linear_weights=weights, word_embedding=weights, activations=activations)
    encoder = build_encoder(encoder_shape(student.config), quantization)
    linears = ternary_linears(student)
    assert set(linears) == {op.name for op in encoder.of_kind(OpKind.TERNARY_LINEAR)}
    for name, linear in linears.items():
        assert tuple(linear.weight.shape) == encoder.parameters[f"{name}.weight_codes"].shape
        assert tuple(linear.ternary_weight().scale.shape) == encoder.parameters[f"{name}.weight_scale"].shape
    static = {op.name for op in encoder.of_kind(OpKind.QUANTIZE) if "probabilities" not in op.name}
    assert set(static_quantizers(student)) == static


def test_query_key_and_value_share_one_input_quantizer(teacher):
    linears = ternary_linears(tiny_student(teacher))
    assert len({id(linears[f"layers.0.attention.{part}"].quantizer) for part in ("query", "key", "value")}) == 1


def test_every_latent_weight_gets_a_gradient(teacher):
    student = tiny_student(teacher).train()
    student(**tiny_batch()).logits.square().sum().backward()
    missing = {name for name, p in student.named_parameters() if p.grad is None or not torch.isfinite(p.grad).all()}
    assert not missing


@pytest.mark.parametrize("weight_quantizer", list(WeightQuantizer))
def test_training_and_evaluation_forward_agree_to_the_bit(teacher, weight_quantizer):
    student = tiny_student(teacher, weight_quantizer=weight_quantizer)
    with torch.no_grad():
        evaluated = student.eval()(**tiny_batch()).logits
        assert torch.equal(student.train()(**tiny_batch()).logits, evaluated)


def test_a_changed_weight_is_ternarised_again(teacher):
    student = tiny_student(teacher)
    linear = ternary_linears(student)["pooler"]
    before = linear.ternary_weight().codes
    with torch.no_grad():
        linear.weight.neg_()
    assert torch.equal(linear.ternary_weight().codes, -before)


def test_weights_changed_by_the_optimizer_are_ternarised_again(teacher):
    student = tiny_student(teacher)
    linear = ternary_linears(student)["pooler"]
    before = linear.ternary_weight().codes
    optimizer = torch.optim.AdamW(student.parameters(), lr=1.0, fused=True)
    student.train()(**tiny_batch()).logits.square().sum().backward()
    optimizer.step()
    assert not torch.equal(student.eval() and linear.ternary_weight().codes, before)


def test_other_families_are_refused_by_name():
    with pytest.raises(UnsupportedModelError, match="'distilbert' is not served; served: bert"):
        require_served(DistilBertConfig())


def test_settings_that_the_deployed_arithmetic_lacks_are_refused():
    with pytest.raises(UnsupportedModelError, match="hidden_act: expected 'gelu', found 'relu'"):
        require_served(BertConfig(hidden_act="relu"))
