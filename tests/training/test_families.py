"""Every served family: the same attachment points, the same guarantees."""

import pytest
import torch
from transformers import (
    AutoConfig,
    DebertaConfig,
    DebertaV2Config,
    FunnelConfig,
    MPNetConfig,
    T5Config,
    XLNetConfig,
)

from tests.training.tiny_families import (
    HEADS,
    LAYERS,
    WIDTH,
    tiny_albert,
    tiny_inputs,
    tiny_model,
    tiny_student_of,
    tokens_of,
)
from ti_qat.errors import UnsupportedModelError
from ti_qat.method.intervention import AttentionRecorder, TeacherIntervention
from ti_qat.method.schedules import InterventionPoint
from ti_qat.models.families import FAMILIES, Modality, attention_calls, family_of, layers_of, require_exportable
from ti_qat.models.modeling import full_precision_weights, set_dropout, ternary_linears
from ti_qat.quantization.quantizers import Mode, activation_mode

POINTS = list(InterventionPoint)
TEXT_FAMILIES = [name for name, family in FAMILIES.items() if family.modality is Modality.TEXT]
CAUSAL_FAMILIES = [name for name, family in FAMILIES.items() if family.causal]

every_family = pytest.mark.parametrize("name", list(FAMILIES))


class Pair:
    """A teacher and its student with recorders and intervention attached."""

    def __init__(self, teacher, inputs):
        self.inputs = inputs
        self.teacher = teacher
        self.student = tiny_student_of(teacher, inputs)
        self.teacher_recorder, self.student_recorder = AttentionRecorder(teacher), AttentionRecorder(self.student)
        self.intervention = TeacherIntervention(self.student)

    @classmethod
    def of(cls, name):
        return cls(tiny_model(name), tiny_inputs(name))

    def observe_teacher(self):
        with torch.no_grad(), self.teacher_recorder.recording() as record:
            output = self.teacher(**self.inputs, output_hidden_states=True)
        return output, record

    def forward(self, point, record):
        with self.student_recorder.recording() as student, self.intervention.during(point, record):
            output = self.student(**self.inputs, output_hidden_states=True)
        return output, student


def assert_same_output(found, expected):
    assert torch.equal(found.logits, expected.logits)
    for ours, theirs in zip(found.hidden_states, expected.hidden_states, strict=True):
        assert torch.equal(ours, theirs)


@every_family
def test_with_everything_off_the_student_is_transformers_own_model(name):
    teacher, inputs = tiny_model(name), tiny_inputs(name)
    teacher.set_attn_implementation("eager")
    student = tiny_student_of(teacher, inputs)
    with torch.no_grad(), full_precision_weights(student), activation_mode(student, Mode.OFF):
        found = student(**inputs, output_hidden_states=True)
        expected = teacher(**inputs, output_hidden_states=True)
    assert_same_output(found, expected)


@every_family
def test_every_layer_reports_its_attention_with_its_shape(name):
    pair = Pair.of(name)
    _, teacher = pair.observe_teacher()
    with torch.no_grad():
        _, student = pair.forward(None, teacher)
    tokens = tokens_of(name)
    for record in (teacher, student):
        for kind, shape in (
            ("scores", (3, HEADS, tokens, tokens)),
            ("probabilities", (3, HEADS, tokens, tokens)),
            ("context", (3, tokens, WIDTH)),
            ("output", (3, tokens, WIDTH)),
        ):
            assert [tuple(tensor.shape) for tensor in getattr(record, kind)] == [shape] * LAYERS


@pytest.mark.parametrize(("layers", "groups", "inner"), [(2, 1, 1), (4, 2, 1), (2, 1, 2), (4, 2, 2)])
def test_shared_layers_are_told_apart_by_the_order_of_their_calls(layers, groups, inner):
    torch.manual_seed(0)
    pair = Pair(tiny_albert(layers, groups, inner).eval(), tiny_inputs("albert"))
    target, teacher = pair.observe_teacher()
    pair.teacher.set_attn_implementation("eager")
    with torch.no_grad():
        attentions = pair.teacher(**pair.inputs, output_attentions=True).attentions
    assert len(attentions) == attention_calls(pair.teacher.config) == layers * inner
    assert len(layers_of(pair.student)) == groups * inner
    for ours, theirs in zip(teacher.probabilities, attentions, strict=True):
        assert torch.equal(ours, theirs)
    for point in POINTS:
        with torch.no_grad(), full_precision_weights(pair.student), activation_mode(pair.student, Mode.OFF):
            assert torch.equal(pair.forward(point, teacher)[0].logits, target.logits)


@every_family
def test_recorded_probabilities_are_transformers_own(name):
    pair = Pair.of(name)
    _, teacher = pair.observe_teacher()
    pair.teacher.set_attn_implementation("eager")
    with torch.no_grad():
        attentions = pair.teacher(**pair.inputs, output_attentions=True).attentions
    for ours, theirs in zip(teacher.probabilities, attentions, strict=True):
        assert torch.equal(ours, theirs)


@every_family
@pytest.mark.parametrize("point", POINTS)
def test_an_unquantised_copy_of_the_teacher_is_not_changed(name, point):
    pair = Pair.of(name)
    target, teacher = pair.observe_teacher()
    with torch.no_grad(), full_precision_weights(pair.student), activation_mode(pair.student, Mode.OFF):
        output, _ = pair.forward(point, teacher)
    assert_same_output(output, target)


@every_family
def test_each_point_replaces_what_it_names(name):
    pair = Pair.of(name)
    _, teacher = pair.observe_teacher()
    with torch.no_grad():
        outputs = {point: pair.forward(point, teacher)[0].logits for point in (None, *POINTS)}
        assert torch.equal(pair.forward(None, teacher)[0].logits, outputs[None])
    assert len({tuple(logits.flatten().tolist()) for logits in outputs.values()}) == 4


def paths_without_gradient(pair, name, point):
    """The linears of attention that get no gradient from the logits, in every layer alike."""
    _, teacher = pair.observe_teacher()
    output, _ = pair.forward(point, teacher)
    output.logits.square().sum().backward()
    family = FAMILIES[name]
    found = {
        part: [layer.get_submodule(getattr(family, part)).weight.grad is None for layer in layers_of(pair.student)]
        for part in ("query", "key", "value", "output")
    }
    assert all(len(set(missing)) == 1 for missing in found.values())
    return {part for part, missing in found.items() if missing[0]}


@every_family
@pytest.mark.parametrize(
    ("point", "expected"),
    [
        (None, set()),
        (InterventionPoint.ATTENTION_MAP, {"query", "key"}),
        (InterventionPoint.CONTEXT, {"query", "key", "value"}),
        (InterventionPoint.OUTPUT, {"query", "key", "value", "output"}),
    ],
)
def test_the_task_reaches_nothing_that_the_teacher_replaces(name, point, expected):
    assert paths_without_gradient(Pair.of(name), name, point) == expected


@every_family
@pytest.mark.parametrize("point", POINTS)
def test_the_scores_train_query_and_key_and_stop_at_their_input(name, point):
    pair = Pair.of(name)
    _, teacher = pair.observe_teacher()
    _, student = pair.forward(point, teacher)
    torch.stack([scores.square().sum() for scores in student.scores]).sum().backward()
    family = FAMILIES[name]
    for layer in layers_of(pair.student):
        trained = {path for path in family.linears.values() if layer.get_submodule(path).weight.grad is not None}
        assert trained == {family.query, family.key}
    assert all(p.grad is None for p in pair.student.get_input_embeddings().parameters())


@every_family
def test_every_ternary_weight_gets_a_gradient_of_its_own(name):
    student = tiny_student_of(tiny_model(name), tiny_inputs(name)).train()
    student(**tiny_inputs(name)).logits.square().sum().backward()
    missing = {n for n, p in student.named_parameters() if p.grad is None or not torch.isfinite(p.grad).all()}
    assert not missing
    for linear in ternary_linears(student).values():
        assert linear.weight.grad.abs().sum() > 0


@pytest.mark.parametrize("name", TEXT_FAMILIES)
@pytest.mark.parametrize("activations", ["static", "dynamic_per_token"])
def test_padding_does_not_change_a_row(name, activations):
    inputs = tiny_inputs(name)
    student = tiny_student_of(tiny_model(name), inputs, activations=activations)
    with torch.no_grad():
        together = student(**inputs).logits
        for row, length in enumerate(inputs["attention_mask"].sum(-1).tolist()):
            alone = student(**{key: tensor[row : row + 1, :length] for key, tensor in inputs.items()}).logits
            # float32 sums run in another order for another shape, and quantised values grow such differences
            torch.testing.assert_close(together[row : row + 1, : alone.shape[1]], alone, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("name", CAUSAL_FAMILIES)
def test_a_later_token_does_not_change_an_earlier_logit(name):
    inputs = {key: tensor[:1] for key, tensor in tiny_inputs(name).items()}
    student = tiny_student_of(tiny_model(name), inputs)
    changed = inputs["input_ids"].clone()
    changed[0, 4] += 1
    with torch.no_grad():
        before, after = student(**inputs).logits, student(**inputs | {"input_ids": changed}).logits
    assert torch.equal(before[:, :4], after[:, :4])
    assert not torch.equal(before[:, 4:], after[:, 4:])


@every_family
def test_a_run_in_which_fewer_layers_report_than_there_are_is_refused(name):
    pair = Pair.of(name)
    pair.teacher.set_attn_implementation("eager")
    with pytest.raises(UnsupportedModelError, match="expected 2 layers to report, found 0"):
        pair.observe_teacher()


@every_family
@pytest.mark.parametrize("point", POINTS)
def test_an_intervention_that_misses_a_layer_is_refused(name, point):
    pair = Pair.of(name)
    _, teacher = pair.observe_teacher()
    layer = layers_of(pair.student)[-1]
    bypassed = FAMILIES[name].attention
    with torch.no_grad():
        hidden = torch.zeros(3, tokens_of(name), WIDTH)
        layer.set_submodule(bypassed, _Bypass(hidden, layer.get_submodule(bypassed)))
        with pytest.raises(UnsupportedModelError, match="layers"):
            pair.forward(point, teacher)


class _Bypass(torch.nn.Module):
    """Attention that calls nothing of ours."""

    def __init__(self, result, replaced):
        super().__init__()
        self.result = result
        self.is_causal = getattr(replaced, "is_causal", False)

    def forward(self, *_, **__):
        return self.result, None


@pytest.mark.parametrize(
    "config",
    [DebertaConfig(), DebertaV2Config(), MPNetConfig(), XLNetConfig(), FunnelConfig(), T5Config()],
    ids=lambda config: config.model_type,
)
def test_families_that_are_not_served_are_refused_by_name(config):
    served = "bert, roberta, electra, distilbert, albert, vit, deit, gpt2, llama"
    with pytest.raises(UnsupportedModelError, match=f"'{config.model_type}' is not served; served: {served}"):
        family_of(config)


@every_family
def test_only_what_an_artifact_can_hold_is_exportable(name):
    config = tiny_model(name).config
    if name in ("bert", "roberta"):
        require_exportable(config)
    else:
        with pytest.raises(UnsupportedModelError, match=f"'{name}' cannot be exported yet .*: bert, roberta$"):
            require_exportable(config)


@every_family
def test_dropout_is_set_everywhere(name):
    teacher, inputs = tiny_model(name), tiny_inputs(name)
    set_dropout(teacher, 0.5)
    student = tiny_student_of(teacher, inputs)
    with torch.no_grad():
        expected = student.eval()(**inputs).logits
        assert torch.equal(student.train()(**inputs).logits, expected)
        set_dropout(student, 0.5)
        assert not torch.equal(student(**inputs).logits, expected)


@every_family
def test_dropout_is_kept_by_the_configuration(name):
    teacher, inputs = tiny_model(name), tiny_inputs(name)
    set_dropout(teacher, 0.0)
    again = type(teacher)(AutoConfig.for_model(**teacher.config.to_dict())).train()
    with torch.no_grad():
        assert torch.equal(again(**inputs).logits, again(**inputs).logits)
