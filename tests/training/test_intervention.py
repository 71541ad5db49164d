import pytest
import torch

from tests.training.models import tiny_batch, tiny_student, tiny_teacher
from ti_qat.distillation import transformer_loss
from ti_qat.errors import UnsupportedModelError
from ti_qat.intervention import AttentionRecorder, TeacherIntervention
from ti_qat.modeling import full_precision_weights
from ti_qat.quantizers import Mode, activation_mode
from ti_qat.schedules import InterventionPoint

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

    def without_gradient(self, of_attention=False):
        """Names (below layer 1) of weights that get no gradient from the logits, or from the scores too."""
        target, teacher = self.observe_teacher()
        output, student = self.forward(self.point, teacher)
        loss = output.logits.square().sum()
        if of_attention:
            loss = transformer_loss(
                output.hidden_states,
                target.hidden_states,
                student.scores,
                teacher.scores,
                output.logits,
                target.logits,
                tiny_batch()["attention_mask"],
            ).total
        loss.backward()
        layer = self.student.bert.encoder.layer[1]
        return {name for name, p in layer.named_parameters() if "weight" in name and p.grad is None}


@pytest.fixture
def pair():
    return Pair()


QUERY_KEY = {"attention.self.query.weight", "attention.self.key.weight"}


@pytest.mark.parametrize(
    ("point", "expected"),
    [
        (None, set()),
        (InterventionPoint.ATTENTION_MAP, QUERY_KEY),
        (InterventionPoint.CONTEXT, QUERY_KEY | {"attention.self.value.weight"}),
        (InterventionPoint.OUTPUT, QUERY_KEY | {"attention.self.value.weight", "attention.output.dense.weight"}),
    ],
)
def test_the_task_reaches_nothing_that_the_teacher_replaces(pair, point, expected):
    pair.point = point
    assert pair.without_gradient() == expected


@pytest.mark.parametrize("point", POINTS)
def test_query_and_key_still_learn_from_the_attention_scores(pair, point):
    pair.point = point
    assert not pair.without_gradient(of_attention=True) & QUERY_KEY


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
