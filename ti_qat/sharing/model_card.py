"""The model card, README.md, of a teacher, a student or a packed student: every value in it is the model's own."""

from __future__ import annotations

from pathlib import Path

from huggingface_hub import EvalResult, ModelCard, ModelCardData

from ti_qat import __version__
from ti_qat.models.families import require_exportable
from ti_qat.models.model_directory import WEIGHTS_FILE, StudentDescription, TrainedModel
from ti_qat.quantization.packed_weights import ternary_layers
from ti_qat.sharing.model_hub import CARD_FILE, OUR_TAG
from ti_qat.tasks.lookup import objective_of

PIPELINES = {
    "AutoModelForSequenceClassification": "text-classification",
    "AutoModelForImageClassification": "image-classification",
    "AutoModelForCausalLM": "text-generation",
}
CITATION = """@inproceedings{kim-etal-2023-teacher,
    title = "Teacher Intervention: Improving Convergence of Quantization Aware Training for Ultra-Low Precision Transformers",
    author = "Kim, Minsoo and Shim, Kyuhong and Park, Seongmin and Sung, Wonyong and Choi, Jungwook",
    booktitle = "Proceedings of the 17th Conference of the European Chapter of the Association for Computational Linguistics",
    year = "2023",
    pages = "916--929",
    url = "https://aclanthology.org/2023.eacl-main.64"
}"""  # noqa: E501 -- its long lines are the titles


def write_card(directory: Path, name: str, model: TrainedModel, inherited: dict[str, object]) -> None:
    """Write the card of the model that is saved in `directory` and called `name`.

    `inherited` is the metadata of what it was made from (`ti_qat.sharing.model_hub`); a licence comes from there or is
    left to the user.
    """
    parts = [_summary(name, model), _facts(directory, model), _loading(name, model)]
    if model.student is not None:
        parts += [_deployment(name, model), f"## Citation\n\n```bibtex\n{CITATION}\n```"]
    metadata = _metadata(name, model, inherited).to_yaml()
    ModelCard(f"---\n{metadata}\n---\n\n" + "\n\n".join(parts) + "\n").save(directory / CARD_FILE)


def address_card(directory: Path, repo_id: str) -> None:
    """Let the code in the card of `directory` load the model from the hub."""
    card = ModelCard.load(directory / CARD_FILE)
    card.text = card.text.replace(_load_call(directory.name), _load_call(repo_id))
    card.save(directory / CARD_FILE)


def _load_call(name: str) -> str:
    return f'.from_pretrained("{name}")'


def _pipeline(model: TrainedModel) -> str:
    return PIPELINES[objective_of(model.trained.task).head.__name__]


def _is_packed(model: TrainedModel) -> bool:
    return model.student is not None and model.model.config.quantization_config.packed


def _metadata(name: str, model: TrainedModel, inherited: dict[str, object]) -> ModelCardData:
    task, result = model.trained.task, model.trained.result
    data_set = getattr(task, "hub", "") or task.name
    scores = [] if result is None else [
        EvalResult(
            task_type=_pipeline(model),
            dataset_type=data_set,
            dataset_name=task.name,
            metric_type=task.metric.value,
            metric_value=result.score,
        )
    ]  # fmt: skip
    return ModelCardData(
        **inherited,
        library_name="transformers",
        pipeline_tag=_pipeline(model),
        tags=[OUR_TAG] if model.student is None else [OUR_TAG, "ternary", "quantized"],
        datasets=[data_set] if getattr(task, "hub", "") else None,
        metrics=[task.metric.value],
        model_name=name,
        eval_results=scores or None,
    )


def _summary(name: str, model: TrainedModel) -> str:
    kind, task = model.model.config.model_type, model.trained.task.name
    if model.student is None:
        return f"# {name}\n\nA `{kind}` model in full precision, fine-tuned for the task `{task}`: a teacher."
    bits = model.student.quantizers.weight_bits
    weights = "ternary weights" if bits == 2 else f"weights of {bits} bits"
    source = "from a teacher in full precision" if model.student.method.distils else "from the labels alone"
    return (
        f"# {name}\n\nA `{kind}` model with {weights} and activations of"
        f" {model.student.quantizers.activation_bits} bits, for the task `{task}`. It learned {source} by"
        f" quantisation-aware training, method `{model.student.method}`."
    )


def _facts(directory: Path, model: TrainedModel) -> str:
    """Return a table of what the model is, how it was made and what it takes."""
    trained, result = model.trained, model.trained.result
    size = (directory / WEIGHTS_FILE).stat().st_size
    rows = {"task": f"`{trained.task.name}`", "base model": f"`{trained.base_model}`"}
    if trained.task.labels:
        rows["labels"] = ", ".join(f"`{label}`" for label in trained.task.labels)
    if result is not None:
        rows["score"] = f"{trained.task.metric.value} {result.score:.4f} on {result.evaluation_rows} evaluation rows"
        steps = "1 step" if result.steps == 1 else f"{result.steps} steps"
        rows["training"] = f"{steps} on {trained.training_rows} rows, seed {trained.seed}"
    if model.student is not None:
        rows |= _student_facts(model, model.student)
    form = "float32"
    if model.student is not None:
        form = "2-bit codes and scales" if _is_packed(model) else "latent float32 weights, which go on learning"
    rows["stored as"] = f"{form}: {size / 1e6:.1f} MB"
    rows["made with"] = f"ti-qat {__version__}"
    return "\n".join(["| | |", "|---|---|", *(f"| {key} | {value} |" for key, value in rows.items())])


def _student_facts(model: TrainedModel, student: StudentDescription) -> dict[str, str]:
    layers = ternary_layers(model.model)
    coded = sum(layer.ternary_weight().codes.numel() for layer in layers.values())
    float_ones = sum(
        parameter.numel()
        for name, parameter in model.model.named_parameters()
        if name.removesuffix(".weight") not in layers
    )
    settings = ", ".join(f"{key} `{value}`" for key, value in student.quantizers.model_dump(mode="json").items())
    return {
        "teacher": f"`{model.trained.source}`",
        "method": f"`{student.method}`",
        "quantisers": settings,
        "parameters": f"{coded} of {student.quantizers.weight_bits} bits, {float_ones} in float32",
    }


def _loading(name: str, model: TrainedModel) -> str:
    head = objective_of(model.trained.task).head.__name__
    lines = [f"from transformers import {head}"]
    if model.student is not None:
        lines.insert(0, "import ti_qat  # registers the quantiser; without it the checkpoint is refused\n")
    code = "\n".join([*lines, "", f"model = {head}{_load_call(name)}"])
    note = "\n\nFor inference: a packed student cannot be trained." if _is_packed(model) else ""
    return f"## Load\n\n```python\n{code}\n```{note}"


def _deployment(name: str, model: TrainedModel) -> str:
    try:
        require_exportable(model.model.config)
        model.student.quantizers.exported()
    except ValueError as error:
        return f"## Deploy\n\nNot yet: {error}."
    return (
        "## Simulate and deploy\n\n```\n"
        f"ti-qat export {name} --data DATA --out artifact\n"
        "ti-qat simulate artifact --accelerator wearable --out simulation\n"
        "ti-qat pack artifact --out bundle\n```\n\n"
        "`export` needs the rows of the evaluation split in DATA; `simulate` runs them through a ternary accelerator,\n"
        "bit by bit; `pack` makes a bundle for inference on a CPU at 2 bits a weight, without torch."
    )
