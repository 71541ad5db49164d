import pytest
import torch

from tests.training.models import tiny_batch, tiny_student, tiny_teacher
from ti_qat.config import LossSettings
from ti_qat.errors import UnsupportedModelError
from ti_qat.method.distillation import TERMS, Observation, Shares, distillation_loss
from ti_qat.method.intervention import AttentionRecorder, TeacherIntervention
from ti_qat.method.schedules import InterventionPoint
from ti_qat.models.modeling import full_precision_weights
from ti_qat.quantization.quantizers import Mode, activation_mode

POINTS = list(InterventionPoint)


class Pair:
    """Teacher and student with recorders and intervention attached."""

    def __init__(self):
        self.teacher = tiny_teacher()
        self.student = tiny_student(self.teacher)
        self.teacher_recorder, self.student_recorder = AttentionRecorder(self.teacher), AttentionRecorder(self.student)
        self.intervention = TeacherIntervention(self.student)

    def observe_teacher(self):
        with torch.no_grad(), self.teacher_recorder.recording() as record:
            output = self.teacher(**tiny_batch(), output_hidden_states=True)
        return output, record

    def forward(self, point, record):
        with self.student_recorder.recording() as student, self.intervention.during(point, record):
            output = self.student(**tiny_batch(), output_hidden_states=True)
        return output, student

    def without_gradient(self, point, *terms):
        """Names (below layer 1) of weights that get no gradient from these terms of the loss."""
        target, teacher = self.observe_teacher()
        output, student = self.forward(point, teacher)
        distillation_loss(
            LossSettings(**{f"{name}_weight": float(name in terms) for name in TERMS}),
            Observation(output.logits, output.hidden_states, student),
            Observation(target.logits, target.hidden_states, teacher),
            tiny_batch() | {"labels": torch.tensor([0, 1, 1])},
            causal=False,
            share=Shares(),
        ).total.backward()
        layer = self.student.bert.encoder.layer[1]
        return {name for name, p in layer.named_parameters() if "weight" in name and p.grad is None}


@pytest.fixture
def pair():
    return Pair()


QUERY_KEY = {"attention.self.query.weight", "attention.self.key.weight"}
VALUE, PROJECTION = {"attention.self.value.weight"}, {"attention.output.dense.weight"}
# What the teacher's value stands in for: nothing behind it depends on these.
REPLACED = {
    None: set(),
    InterventionPoint.ATTENTION_MAP: QUERY_KEY,
    InterventionPoint.CONTEXT: QUERY_KEY | VALUE,
    InterventionPoint.OUTPUT: QUERY_KEY | VALUE | PROJECTION,
}


@pytest.mark.parametrize("term", ["hidden", "logits", "labels"])
@pytest.mark.parametrize(("point", "expected"), REPLACED.items())
def test_the_task_reaches_nothing_that_the_teacher_replaces(pair, point, expected, term):
    assert pair.without_gradient(point, term) == expected


@pytest.mark.parametrize(("point", "expected"), REPLACED.items())
def test_attention_output_teaches_what_the_teacher_has_not_replaced(pair, point, expected):
    layer = {name for name, _ in pair.student.bert.encoder.layer[1].named_parameters()}
    behind = {name for name in layer if name.startswith(("intermediate.dense.weight", "output."))}
    behind = {name for name in behind if "weight" in name}
    assert pair.without_gradient(point, "attention_output") == expected | behind


@pytest.mark.parametrize("term", ["attention_scores", "attention_map"])
@pytest.mark.parametrize("point", POINTS)
def test_scores_and_map_teach_query_and_key_alone(pair, point, term):
    layer = {name for name, _ in pair.student.bert.encoder.layer[1].named_parameters() if "weight" in name}
    assert pair.without_gradient(point, term) == layer - QUERY_KEY


@pytest.mark.parametrize(
    ("point", "expected"),
    [
        (None, set()),
        (InterventionPoint.ATTENTION_MAP, set()),
        # Under TI-C the context, and under TI-O its projection too, are the teacher's, and no term compares
        # the student's own.
        (InterventionPoint.CONTEXT, VALUE),
        (InterventionPoint.OUTPUT, VALUE | PROJECTION),
    ],
)
def test_who_gets_no_gradient_from_the_whole_loss(pair, point, expected):
    assert pair.without_gradient(point, *TERMS) == expected


@pytest.mark.parametrize("point", POINTS)
def test_score_loss_stops_at_the_inputs_of_query_and_key(pair, point):
    _, teacher = pair.observe_teacher()
    _, student = pair.forward(point, teacher)
    torch.stack([scores.square().sum() for scores in student.scores]).sum().backward()
    assert pair.student.bert.embeddings.word_embeddings.weight.grad is None
    assert pair.student.bert.encoder.layer[0].intermediate.dense.weight.grad is None


@pytest.mark.parametrize("point", POINTS)
def test_an_unquantised_copy_of_the_teacher_is_not_changed(pair, point):
    target, teacher = pair.observe_teacher()
    with torch.no_grad(), full_precision_weights(pair.student), activation_mode(pair.student, Mode.OFF):
        output, _ = pair.forward(point, teacher)
    assert torch.equal(output.logits, target.logits)


def test_each_point_replaces_what_it_names(pair):
    _, teacher = pair.observe_teacher()
    with torch.no_grad():
        free = pair.forward(None, teacher)[0].logits
        changed = {point: pair.forward(point, teacher)[0].logits for point in POINTS}
        assert torch.equal(pair.forward(None, teacher)[0].logits, free)
    assert len({tuple(logits.flatten().tolist()) for logits in (free, *changed.values())}) == 4


def test_a_model_that_bypasses_the_attention_function_is_refused(pair):
    pair.teacher.set_attn_implementation("eager")
    with pytest.raises(UnsupportedModelError, match="expected 2 layers to report, found 0"):
        pair.observe_teacher()


@pytest.mark.parametrize("point", POINTS)
def test_an_intervention_that_does_not_reach_every_layer_is_refused(pair, point):
    _, teacher = pair.observe_teacher()
    with (
        pytest.raises(UnsupportedModelError, match="expected 2 layers, reached 0"),
        pair.intervention.during(point, teacher),
    ):
        pass


def test_the_sublayers_result_is_what_the_whole_attention_block_returns(pair):
    returned = []
    for layer in pair.teacher.bert.encoder.layer:
        # transformers' own module: output projection, dropout, residual, LayerNorm.
        layer.attention.output.register_forward_hook(lambda _, __, output: returned.append(output))
    _, teacher = pair.observe_teacher()
    assert len(returned) == 2
    assert all(torch.equal(*both) for both in zip(teacher.sublayer, returned, strict=True))
