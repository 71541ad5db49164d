"""Models on the Hugging Face hub: whether one is there, what its card says, and uploads."""

from __future__ import annotations

from pathlib import Path

from huggingface_hub import CardData, HfApi, ModelCard, ModelCardData, get_token, try_to_load_from_cache
from huggingface_hub.errors import HFValidationError, HTTPError, RepositoryNotFoundError
from huggingface_hub.utils import validate_repo_id

from ti_qat.errors import ConfigurationError, PublishError, UnsupportedModelError

CARD_FILE = "README.md"
TIMEOUT_SECONDS = 10
# What a model made from another takes over from its card; the rest is its own.
INHERITED = ("license", "license_name", "license_link", "language")
OUR_TAG = "ti-qat"


def require_there(source: str) -> None:
    """Raise `UnsupportedModelError` where `source` is no directory and the hub, asked once, has no such model.

    Transformers would try again for half a minute before it says so.
    """
    try:
        if Path(source).is_dir() or isinstance(try_to_load_from_cache(source, "config.json"), str):
            return
        HfApi().model_info(source, timeout=TIMEOUT_SECONDS)
    except (HFValidationError, RepositoryNotFoundError) as error:
        raise UnsupportedModelError(f"{source}: expected a directory or a model of the hub, found neither") from error
    except (OSError, HTTPError) as error:
        raise UnsupportedModelError(f"{source}: no directory, and the hub cannot be asked: {error}") from error


def inherited_metadata(source: str) -> dict[str, object]:
    """Return what the card of `source`, a directory or hub name, says that holds of models made from it too.

    `base_model` is `source` itself where it is the hub's, or that of one of our cards. What is not known, or
    cannot be asked, is left out.
    """
    known = _card_data(source).to_dict()
    inherited = {key: known[key] for key in INHERITED if known.get(key)}
    if not Path(source).is_dir():
        return inherited | {"base_model": source}
    if OUR_TAG in known.get("tags", []) and known.get("base_model"):
        return inherited | {"base_model": known["base_model"]}
    return inherited


def _card_data(source: str) -> CardData:
    if Path(source).is_dir():
        card = Path(source) / CARD_FILE
        return ModelCard.load(card, ignore_metadata_errors=True).data if card.exists() else ModelCardData()
    try:
        return HfApi().model_info(source, timeout=TIMEOUT_SECONDS).card_data or ModelCardData()
    except (OSError, HTTPError):
        return ModelCardData()


def require_pushable(repo_id: str) -> None:
    """Raise `ConfigurationError` where nothing could be pushed to `repo_id`: no name, or nobody is logged in."""
    try:
        validate_repo_id(repo_id)
    except HFValidationError as error:
        raise ConfigurationError(f"--push-to-hub: expected NAME or OWNER/NAME, found '{repo_id}': {error}") from error
    if get_token() is None:
        raise ConfigurationError("--push-to-hub: no access token of the hub; log in with `hf auth login`")


def push(directory: Path, repo_id: str) -> str:
    """Upload `directory` as the model `repo_id`, which is created where it is not there; return its address.

    Raises `PublishError`, which says how to upload what lies in `directory` later.
    """
    api = HfApi()
    try:
        address = api.create_repo(repo_id, exist_ok=True)
        api.upload_folder(repo_id=repo_id, folder_path=directory)
    except (OSError, ValueError, HTTPError) as error:
        raise PublishError(
            f"{directory} is complete, but was not pushed to {repo_id}: {error};"
            f" push it with `hf upload {repo_id} {directory}`"
        ) from error
    return str(address)
