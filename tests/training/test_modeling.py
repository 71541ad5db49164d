import pytest
import torch
from transformers import BertConfig, DebertaConfig, DistilBertConfig, MPNetConfig

from tests.training.models import tiny_batch, tiny_student, tiny_teacher
from ti_qat.artifact.encoder import OpKind, build_encoder
from ti_qat.artifact.schema import ActivationScaling, Granularity
from ti_qat.config import QuantizerSettings, WeightQuantizer
from ti_qat.errors import UnsupportedModelError
from ti_qat.models.exported_network import encoder_shape
from ti_qat.models.families import family_of, require_exportable
from ti_qat.models.modeling import attach_tap, full_precision_weights, static_quantizers, ternary_linears
from ti_qat.quantization.quantizers import Mode, activation_mode


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
        tap = attach_tap(teacher)
        tap.recording = True
        assert torch.equal(teacher(**tiny_batch()).logits, expected)
    assert [tuple(scores.shape) for scores in tap.scores] == [(3, 3, 7, 7)] * tap.calls == [(3, 3, 7, 7)] * 2


def test_a_tap_keeps_nothing_unless_it_records(teacher):
    tap = attach_tap(teacher)
    with torch.no_grad():
        teacher(**tiny_batch())
    assert not tap.scores and not tap.probabilities


@pytest.mark.parametrize("activations", list(ActivationScaling))
def test_padding_does_not_change_a_row(teacher, activations):
    student = tiny_student(teacher, activations=activations)
    batch = tiny_batch()
    with torch.no_grad():
        together = student(**batch).logits
        for row, length in enumerate(batch["attention_mask"].sum(-1).tolist()):
            alone = student(**{name: tensor[row : row + 1, :length] for name, tensor in batch.items()}).logits
            torch.testing.assert_close(together[row : row + 1], alone, rtol=1e-4, atol=1e-4)


def test_padded_keys_get_no_attention(teacher):
    student = tiny_student(teacher)
    tap = attach_tap(student)
    tap.recording = True
    with torch.no_grad():
        student(**tiny_batch())
    assert tap.probabilities[0][1, :, :, 4:].abs().max() == 0
    assert tap.probabilities[0][2, :, :, 0].min() == 1


@pytest.mark.parametrize("weights", list(Granularity))
@pytest.mark.parametrize("activations", list(ActivationScaling))
def test_names_and_shapes_are_those_of_the_artifact(teacher, weights, activations):
    settings = QuantizerSettings(linear_weights=weights, word_embedding=weights, activations=activations)
    student = tiny_student(teacher, settings)
    encoder = build_encoder(encoder_shape(student), settings.exported())
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


@pytest.mark.parametrize("config", [DebertaConfig(), MPNetConfig()])
def test_families_whose_attention_is_their_own_are_refused_by_name(config):
    with pytest.raises(UnsupportedModelError, match=f"'{config.model_type}' is not served; served: bert, roberta"):
        family_of(config)


def test_what_cannot_be_exported_yet_is_refused_by_name():
    with pytest.raises(UnsupportedModelError, match=r"'distilbert' cannot be exported yet .*; exported: bert, rob"):
        require_exportable(DistilBertConfig())


def test_settings_that_the_deployed_arithmetic_lacks_are_refused():
    with pytest.raises(UnsupportedModelError, match="hidden_act: expected 'gelu' to be exported, found 'relu'"):
        require_exportable(BertConfig(hidden_act="relu"))
