"""Text classification, or regression, with a bundle."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import numpy as np
import onnxruntime as ort
from numpy.typing import NDArray
from tokenizers import Encoding, Tokenizer

from deploy.bundle import TOKENIZER_FILE, Bundle, read_bundle
from deploy.bundle_files import BundleError
from deploy.runtime.session import RuntimeConfigurationError, open_session, reason

Text = str | tuple[str, str]


class TextError(ValueError):
    """A text that cannot be classified: its index in the call, and what was expected and found."""

    def __init__(self, index: int, reason: str) -> None:
        self.index = index
        self.reason = reason
        super().__init__(f"text {index}: {reason}")


class InferenceError(ValueError):
    """A call that the model refused, or whose result is none; says what was expected and found."""


@dataclass(frozen=True)
class Prediction:
    """The most probable label of a text, its probability, and the probabilities of the labels.

    `scores` has every label in the bundle's order or, where `top_k` was asked for, only the `top_k`
    most probable, the best first. Of a regression: the name of the number, the number itself, and
    both once more in `scores`.
    """

    label: str
    score: float
    scores: Mapping[str, float]


class Classifier:
    """A bundle, opened; `load` makes one. Calls may come from several threads.

    >>> with Classifier.load("bundle", threads=2) as classifier:
    ...     classifier(["a fine film"], top_k=1)[0].label
    'positive'
    """

    def __init__(self, bundle: Bundle, tokenizer: Tokenizer, session: ort.InferenceSession) -> None:
        self.bundle = bundle
        self._tokenizer = tokenizer
        self._session: ort.InferenceSession | None = session

    @classmethod
    def load(cls, path: Path | str, *, threads: int | None = None, isa: str | None = None) -> Classifier:
        """Open a bundle directory.

        `threads` sizes the operators' pool (default: all cores); `isa` forces an instruction set, one of
        `deploy.runtime.session.ISAS` (default: $TI_QAT_ISA, else the best). Neither changes a bit of the
        results. Raises BundleError for a broken bundle, RuntimeConfigurationError for a request that this
        machine cannot serve.
        """
        bundle = read_bundle(path)
        return cls(bundle, _load_tokenizer(bundle), open_session(bundle, threads=threads, isa=isa))

    def close(self) -> None:
        """Give back threads and memory; later calls raise RuntimeConfigurationError."""
        self._session = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def labels(self) -> tuple[str, ...]:
        """Names of the classes, in the order of the logits; of a regression, the name of its number."""
        return self.bundle.manifest.labels

    def __call__(self, texts: Sequence[Text], *, batch_size: int = 32, top_k: int | None = None) -> list[Prediction]:
        """Classify texts, or (text, second text) pairs; longer ones are cut to the bundle's max_length.

        `batch_size` bounds the texts of one run of the model. `top_k` keeps the most probable labels only.
        Raises TextError for a text where the bundle says that the model takes pairs, and the reverse;
        InferenceError where the model's result is none; ValueError for a `batch_size` or `top_k` below 1.
        """
        if isinstance(texts, str):
            raise TypeError("expected a sequence of texts, found a single string")
        for name, value in (("batch_size", batch_size), ("top_k", top_k)):
            if value is not None and value < 1:
                raise ValueError(f"{name}: expected 1 or more, found {value}")
        self._require_fitting(texts)
        return [self._prediction(row, top_k) for row in self._logits_of(self._encodings(texts), batch_size)]

    def logits(self, inputs: Mapping[str, NDArray[np.int32]]) -> NDArray[np.float32]:
        """Return float32 (B, labels) for input_ids and token_type_ids, int32 (B, S), and lengths, int32 (B,).

        Raises InferenceError for ids outside the vocabulary, lengths outside 1 to S and shapes that do not fit.
        """
        session = self._session
        if session is None:
            raise RuntimeConfigurationError(f"{self.bundle.path}: expected an open classifier, found a closed one")
        try:
            (found,) = session.run(None, dict(inputs))
        except Exception as error:  # ONNX Runtime's exception classes have no public common base
            raise InferenceError(f"{self.bundle.path}: {reason(error)}") from error
        expected = (len(inputs["lengths"]), len(self.labels))
        if found.shape != expected:
            raise InferenceError(f"{self.bundle.path}: logits: expected shape {expected}, found {found.shape}")
        return np.asarray(found, np.float32)

    def _require_fitting(self, texts: Sequence[Text]) -> None:
        columns = self.bundle.manifest.text_columns
        for index, text in enumerate(texts):
            parts = (text,) if isinstance(text, str) else tuple(text)
            if columns is not None and len(parts) != len(columns):
                one = f"one text ({columns[0]})"
                expected = one if len(columns) == 1 else f"a pair of texts ({', '.join(columns)})"
                raise TextError(index, f"expected {expected}, found {_count(parts)}")
            try:
                "".join(parts).encode("utf-8")
            except UnicodeEncodeError as error:
                found = repr("".join(parts)[error.start])
                raise TextError(index, f"expected text that UTF-8 can write, found {found}") from error

    def _encodings(self, texts: Sequence[Text]) -> list[Encoding]:
        try:
            return self._tokenizer.encode_batch(list(texts))
        except (KeyboardInterrupt, SystemExit, TypeError):
            raise
        except BaseException as error:  # as in _load_tokenizer
            raise InferenceError(f"{self.bundle.path / TOKENIZER_FILE}: expected tokens, found: {error}") from error

    def _logits_of(self, encodings: Sequence[Encoding], batch_size: int) -> NDArray[np.float32]:
        """Run texts of like length together, so that little padding is computed."""
        lengths = np.array([len(encoding.ids) for encoding in encodings])
        if not lengths.all():
            raise TextError(int(np.argmin(lengths)), "expected at least one token, found none")
        order = np.argsort(lengths, kind="stable")
        logits = np.empty((len(encodings), len(self.labels)), np.float32)
        for start in range(0, len(order), batch_size):
            chosen = order[start : start + batch_size]
            logits[chosen] = self.logits(self._inputs([encodings[i] for i in chosen]))
        return logits

    def _inputs(self, encodings: Sequence[Encoding]) -> dict[str, NDArray[np.int32]]:
        lengths = np.array([len(encoding.ids) for encoding in encodings], np.int32)
        shape = (len(encodings), int(lengths.max()))
        input_ids = np.full(shape, self.bundle.manifest.pad_token_id, np.int32)
        token_type_ids = np.zeros(shape, np.int32)
        try:
            for row, encoding in enumerate(encodings):
                input_ids[row, : lengths[row]] = encoding.ids
                token_type_ids[row, : lengths[row]] = encoding.type_ids
        except OverflowError as error:  # the tokenizer's numbers have 32 bits without a sign
            raise InferenceError(
                f"{self.bundle.path / TOKENIZER_FILE}: expected ids of int32, found: {error}"
            ) from error
        return {"input_ids": input_ids, "token_type_ids": token_type_ids, "lengths": lengths}

    def _prediction(self, logits: NDArray[np.float32], top_k: int | None) -> Prediction:
        if not np.isfinite(logits).all():
            raise InferenceError(f"{self.bundle.path}: logits: expected finite numbers, found {logits.tolist()}")
        if self.bundle.manifest.is_regression:
            name, number = self.labels[0], float(logits[0])
            return Prediction(name, number, {name: number})
        exponentials = np.exp(logits.astype(np.float64) - logits.max())
        probabilities = exponentials / exponentials.sum()
        best_first = np.argsort(-logits, kind="stable")
        kept = range(len(logits)) if top_k is None else best_first[:top_k]
        scores = {self.labels[i]: float(probabilities[i]) for i in kept}
        best = int(best_first[0])
        return Prediction(self.labels[best], float(probabilities[best]), scores)


def _count(texts: tuple[str, ...]) -> str:
    return "one text" if len(texts) == 1 else f"{len(texts)} texts"


def _load_tokenizer(bundle: Bundle) -> Tokenizer:
    content = bundle.read(TOKENIZER_FILE)
    try:
        tokenizer: Any = Tokenizer.from_buffer(content)
        tokenizer.no_padding()
        tokenizer.enable_truncation(bundle.manifest.max_length)
    except (KeyboardInterrupt, SystemExit):
        raise
    except BaseException as error:  # the tokenizers package raises a bare Exception, and its panics are none
        file = bundle.path / TOKENIZER_FILE
        raise BundleError(file, "content", expected="a tokenizer", found=str(error)) from error
    return tokenizer
