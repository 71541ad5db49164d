"""Students under every setting of their quantisers: trained, evaluated, saved, blended with full precision."""

import math

import pytest
import torch
from torch import nn
from torch.nn import functional

from tests.training.models import tiny_batch, tiny_student, tiny_teacher
from ti_qat.artifact.schema import Granularity
from ti_qat.config import ActivationRange, QuantizerSettings, StudentConfig, WeightQuantizer, configure
from ti_qat.errors import ConfigurationError
from ti_qat.models.modeling import full_precision_weights, make_student, ternary_linears
from ti_qat.quantization.activation_quantizers import PerTensorQuantizer, PerTokenQuantizer, ProbabilityQuantizer
from ti_qat.quantization.layers import TernaryEmbedding, TernaryLinear, set_blend
from ti_qat.quantization.quantizers import Mode, Quantizer, activation_mode
from ti_qat.training.optimizers import SCALE_PARAMETER

LABELS = torch.tensor([0, 1, 0])
SETTINGS = {
    **{f"weights {quantizer}": {"weight_quantizer": quantizer} for quantizer in WeightQuantizer},
    **{f"range {source}": {"activation_range": source} for source in ActivationRange},
    **{f"{b} bits": {"weight_quantizer": "learned", "weight_bits": b, "activation_bits": b} for b in (3, 4)},
    "min-max weights of 8 bits": {"weight_quantizer": "min_max", "weight_bits": 8},
    "learned scales of tensors": {
        "weight_quantizer": "learned",
        "linear_weights": "per_tensor",
        "word_embedding": "per_tensor",
    },
    "per token": {"activations": "dynamic_per_token"},
    "the paper's": {
        "weight_clip": 2.5,
        "linear_weights": "per_tensor",
        "activations": "dynamic_per_tensor",
        "activation_clip": 2.5,
    },
}
every_setting = pytest.mark.parametrize("changes", SETTINGS.values(), ids=SETTINGS.keys())


def loss_of(student):
    return functional.cross_entropy(student(**tiny_batch()).logits, LABELS)


@every_setting
def test_training_lowers_the_loss_and_evaluation_repeats_it(changes):
    student = tiny_student(tiny_teacher(), **changes)
    before = loss_of(student).item()
    student.train()
    optimizer = torch.optim.AdamW(student.parameters(), lr=2e-3)
    for _ in range(12):
        optimizer.zero_grad()
        loss_of(student).backward()
        assert all(torch.isfinite(p.grad).all() for p in student.parameters() if p.grad is not None)
        optimizer.step()
    with torch.no_grad():
        assert loss_of(student).item() < 0.7 * before
        trained = student(**tiny_batch()).logits
        assert torch.equal(student.eval()(**tiny_batch()).logits, trained)
        again = make_student(tiny_teacher(1), QuantizerSettings(**changes)).eval()
        again.load_state_dict(student.state_dict())
        assert torch.equal(again(**tiny_batch()).logits, trained)


@every_setting
def test_everything_can_be_switched_off(changes):
    teacher = tiny_teacher()
    teacher.set_attn_implementation("eager")
    student = tiny_student(teacher, **changes).train()
    with torch.no_grad(), full_precision_weights(student), activation_mode(student, Mode.OFF):
        assert torch.equal(student(**tiny_batch()).logits, teacher(**tiny_batch()).logits)


def test_every_learned_scale_is_found_by_its_name():
    student = tiny_student(tiny_teacher(), weight_quantizer="learned").train()
    scales = {name: p for name, p in student.named_parameters() if name.endswith(SCALE_PARAMETER)}
    # 13 linears and the word embedding; 4 activation scales in each of 2 layers' attention, 3 at inputs, the pooler's.
    assert len(scales) == 13 + 1 + 2 * 7 + 1
    loss_of(student).backward()
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in scales.values())
    table = student.bert.embeddings.word_embeddings.weight_quantizer.log2_scale
    used = tiny_batch()["input_ids"].unique()
    assert table.shape == (student.config.vocab_size,)
    assert set(table.grad.nonzero().flatten().tolist()) <= set(used.tolist())


def copies(*parameters):
    return (parameter.detach().clone().requires_grad_() for parameter in parameters)


def learned_step(weight, log2_scale, code_max, shared):
    """The published recipe in plain autograd: https://arxiv.org/abs/1902.08153, appendix."""
    scale = torch.exp2(log2_scale)[:, None]
    factor = 1 / math.sqrt(shared * code_max)
    scale = (scale - scale * factor).detach() + scale * factor
    steps = (weight / scale).clamp(-code_max, code_max)
    return (steps.round() - steps).detach() * scale + steps * scale


@pytest.mark.parametrize(("bits", "code_max"), [(2, 1), (4, 7)])
@pytest.mark.parametrize("granularity", list(Granularity))
def test_a_linear_with_learned_steps_equals_plain_autograd(granularity, bits, code_max):
    torch.manual_seed(0)
    settings = QuantizerSettings(weight_quantizer="learned", weight_bits=bits, linear_weights=granularity)
    layer = TernaryLinear.from_linear(nn.Linear(20, 6), settings, PerTokenQuantizer())
    x, upstream = torch.randn(3, 5, 20), torch.randn(3, 5, 6)
    found = layer.train()(x)
    found.backward(upstream)
    weight, log2_scale = copies(layer.weight, layer.weight_quantizer.log2_scale)
    rows = weight if granularity is Granularity.PER_ROW else weight.reshape(1, -1)
    effective = learned_step(rows, log2_scale, code_max, rows.shape[1]).reshape(6, 20)
    expected = functional.linear(layer.quantizer(x).value, effective, layer.bias)
    expected.backward(upstream)
    # float32 sums in another order.
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(layer.weight.grad, weight.grad, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(layer.weight_quantizer.log2_scale.grad, log2_scale.grad, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("shape", [(1, 6), (1, 1, 6), (2, 6)], ids=str)
@pytest.mark.parametrize("granularity", list(Granularity))
def test_a_token_alone_in_its_batch_gets_its_gradient_too(granularity, shape):
    """Its scale is one number, as a static one, though not in that shape; a square weight would hide a mix-up."""
    torch.manual_seed(0)
    settings = QuantizerSettings(linear_weights=granularity)
    layer = TernaryLinear.from_linear(nn.Linear(6, 6), settings, PerTokenQuantizer()).train()
    x, upstream = torch.randn(shape, requires_grad=True), torch.randn(shape)
    layer(x).backward(upstream)
    ternary = layer.ternary_weight()
    # float32 sums in another order.
    torch.testing.assert_close(x.grad, upstream @ (ternary.codes * ternary.scale[:, None]), rtol=1e-5, atol=1e-6)
    expected = upstream.reshape(-1, 6).T @ layer.quantizer(x).value.detach().reshape(-1, 6)
    torch.testing.assert_close(layer.weight.grad, expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("granularity", list(Granularity))
def test_an_embedding_with_learned_steps_equals_plain_autograd(granularity):
    torch.manual_seed(0)
    settings = QuantizerSettings(weight_quantizer="learned", word_embedding=granularity)
    layer = TernaryEmbedding.from_embedding(nn.Embedding(11, 8), settings).train()
    ids = torch.tensor([[1, 3, 3, 9], [0, 3, 1, 1]])
    upstream = torch.randn(2, 4, 8)
    layer(ids).backward(upstream)
    weight, log2_scale = copies(layer.weight, layer.weight_quantizer.log2_scale)
    rows = weight if granularity is Granularity.PER_ROW else weight.reshape(1, -1)
    expected = learned_step(rows, log2_scale, 1, rows.shape[1]).reshape(11, 8)[ids]
    expected.backward(upstream)
    torch.testing.assert_close(layer(ids), expected)
    torch.testing.assert_close(layer.weight.grad, weight.grad, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(layer.weight_quantizer.log2_scale.grad, log2_scale.grad, rtol=1e-4, atol=1e-5)
    with torch.no_grad():
        assert torch.equal(layer.eval()(ids), layer.train()(ids))


def test_a_learned_scale_that_changes_is_used_outside_training_too():
    linear = ternary_linears(tiny_student(tiny_teacher(), weight_quantizer="learned"))["pooler"]
    before = linear.ternary_weight().scale.clone()
    with torch.no_grad():
        linear.weight_quantizer.log2_scale.add_(1)
    torch.testing.assert_close(linear.ternary_weight().scale, 2 * before)


def test_clipped_weights_of_a_student_get_no_gradient_beyond_the_clip():
    student = tiny_student(tiny_teacher(), weight_clip=0.4).train()
    loss_of(student).backward()
    for linear in ternary_linears(student).values():
        beyond = linear.weight.abs() >= 0.4
        assert beyond.any()
        assert not linear.weight.grad[beyond].any()
        assert linear.weight.grad[~beyond].any()


@every_setting
def test_blend_zero_is_full_precision_and_blend_one_is_quantised(changes):
    teacher = tiny_teacher()
    teacher.set_attn_implementation("eager")
    student = tiny_student(teacher, **changes).train()
    with torch.no_grad():
        set_blend(student, 0.0)
        assert torch.equal(student(**tiny_batch()).logits, teacher(**tiny_batch()).logits)
        set_blend(student, 1.0)
        quantised = student(**tiny_batch()).logits
        set_blend(student, 0.5)
        assert torch.equal(student.eval()(**tiny_batch()).logits, quantised)  # evaluation never blends


def test_a_blended_linear_mixes_values_and_gradients():
    torch.manual_seed(0)
    layer = TernaryLinear.from_linear(nn.Linear(20, 6), QuantizerSettings(weight_clip=0.15), ProbabilityQuantizer())
    layer.input_quantizer = layer.quantizer
    layer.train()
    x = (torch.randn(5, 20) * 0.8).requires_grad_()
    quantised_x = (x * 127).round().clamp(-127, 127) / 127
    ternary = layer.ternary_weight()
    set_blend(layer, 0.25)
    found = layer(x)
    mixed_x = 0.25 * quantised_x + 0.75 * x
    mixed_weight = 0.25 * ternary.codes * ternary.scale[:, None] + 0.75 * layer.weight
    torch.testing.assert_close(found, functional.linear(mixed_x, mixed_weight, layer.bias), rtol=1e-5, atol=1e-6)
    upstream = torch.randn(5, 6)
    found.backward(upstream)
    share_x = torch.where(x.abs() <= 1, 1.0, 0.75)  # saturation stops the quantised part
    share_weight = torch.where(layer.weight.abs() < 0.15, 1.0, 0.75)  # and clipping that of the weights
    torch.testing.assert_close(x.grad, (upstream @ mixed_weight) * share_x, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(layer.weight.grad, (upstream.T @ mixed_x) * share_weight, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("blend", [-0.1, 1.5, math.nan])
def test_a_blend_is_between_zero_and_one(blend):
    with pytest.raises(ValueError, match="blend: expected 0 to 1"):
        set_blend(nn.Linear(1, 1), blend)


def test_one_scale_a_tensor_leaves_nothing_to_calibrate():
    student = make_student(tiny_teacher(), QuantizerSettings(activations="dynamic_per_tensor", activation_clip=2.5))
    quantizers = [module for module in student.modules() if isinstance(module, Quantizer)]
    assert len(quantizers) == 2 * 8 + 1  # the probabilities' are of the kind
    assert all(type(quantizer) is PerTensorQuantizer for quantizer in quantizers)
    assert torch.isfinite(loss_of(student))


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("weight_bits=4", "weight_bits: expected 2 with weight_quantizer twn, .*min_max or learned.*, found 4"),
        ("weight_bits=5", "weight_bits: .*, found 5"),
        ("activation_bits=1", "activation_bits: .*, found 1"),
        ("weight_clip=0", "weight_clip: .*, found 0"),
        ("activations=per_layer", "activations: .*'per_layer'"),
        ("activation_range=histogram", "activation_range: .*'histogram'"),
    ],
)
def test_what_makes_no_sense_is_refused_by_name(override, message):
    with pytest.raises(ConfigurationError, match=f"^{message}"):
        configure(StudentConfig, [override], "any")


def test_a_range_without_effect_is_refused():
    with pytest.raises(ConfigurationError, match=r"activation_range: without effect under .*, found 'ema'"):
        configure(StudentConfig, ["activations=dynamic_per_tensor", "activation_range=ema"], "any")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"weight_quantizer": "learned", "weight_bits": 3}, "weight_bits: expected 2 to be exported, found 3"),
        ({"activation_bits": 4}, "activation_bits: expected 8 to be exported, found 4"),
        (
            {"activations": "dynamic_per_tensor"},
            "activations: expected static or dynamic_per_token to be exported, found dynamic_per_tensor",
        ),
    ],
)
def test_what_an_artifact_cannot_hold_is_refused_by_name(changes, message):
    with pytest.raises(ConfigurationError, match=f"^{message}$"):
        QuantizerSettings(**changes).exported()
