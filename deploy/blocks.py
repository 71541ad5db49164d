"""Runs of the encoder's operations that one custom operator computes as a whole.

A block's operator is nothing but its operations: the function body, the reference operator and the
compiled one are all held to the list that `canonical_block` takes from the encoder.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cache
from itertools import groupby

from onnx import NodeProto, helper

from deploy.lowering import attributes_of, node_of
from deploy.operators import DOMAIN, HEADS, SCHEMAS
from ti_qat.artifact.encoder import LENGTHS, Encoder, Operation, OpKind, build_encoder
from ti_qat.artifact.packing import TWO_BITS, Packing
from ti_qat.artifact.schema import ActivationScaling, EncoderShape, Granularity, Quantization

# The block that an operation belongs to, by its name, and the operator of such a block.
_BLOCKS = (
    (re.compile(r"(embedding)(\.norm)?"), "TernaryEmbeddingNorm"),
    (re.compile(r"(layers\.\d+\.attention)\..*"), "TernaryAttention"),
    (re.compile(r"(layers\.\d+\.feed_forward)\..*"), "TernaryFeedForward"),
)
_PER_TOKEN = "PerToken"
RESULT = "y"
# How many tokens of a sequence an attention block gives a result for, where that is not all of them.
QUERIES = "queries"
FIRST_TOKEN_ONLY = "first_token.count"


@dataclass(frozen=True)
class Block:
    """Operations in order, and the operator that computes them; `inputs` and `output` name the encoder's tensors."""

    name: str
    operator: str
    operations: tuple[Operation, ...]
    inputs: tuple[str, ...]
    output: str

    @property
    def computed(self) -> str:
        """The input that says of how many tokens of each sequence there is a result."""
        return computed_role(self.operator)

    def for_first_token(self) -> Block:
        """Return the block that gives a result for the first token of a sequence alone."""
        at = SCHEMAS[self.operator].inputs.index(self.computed)
        return replace(self, inputs=(*self.inputs[:at], FIRST_TOKEN_ONLY, *self.inputs[at + 1 :]))

    def node(self, packing: Packing) -> NodeProto:
        """Return the node that computes the block on weights so packed."""
        attributes = attributes_of(self.operator, packing, self.heads)
        return helper.make_node(
            self.operator, list(self.inputs), [self.output], name=self.name, domain=DOMAIN, **attributes
        )

    @property
    def heads(self) -> int:
        """Heads of an attention block; 0 of any other."""
        return next((op.attributes[HEADS] for op in self.operations if HEADS in op.attributes), 0)


def blocks(encoder: Encoder) -> list[Block | Operation]:
    """Return the encoder's operations in order, those of a block taken together."""
    found: list[Block | Operation] = []
    for block, run in groupby(encoder.operations, _block_of):
        operations = tuple(run)
        found += [_make_block(*block, operations)] if block else operations
    return _without_unread_tokens(found)


def _without_unread_tokens(steps: Sequence[Block | Operation]) -> list[Block | Operation]:
    """Let blocks compute the first token alone where nothing reads the others: the classifier reads no more.

    Attention reads all tokens of its input, a feed-forward block only those that it computes.
    """
    readers = Counter(name for step in steps for name in (step.inputs if isinstance(step, Block) else _reads(step)))
    first_only = {op.inputs["x"] for op in steps if isinstance(op, Operation) and op.kind is OpKind.FIRST_TOKEN}
    found: list[Block | Operation] = []
    for step in reversed(steps):
        if isinstance(step, Block) and step.output in first_only and readers[step.output] == 1:
            if step.computed == LENGTHS:
                first_only.add(step.inputs[0])
            found.append(step.for_first_token())
        else:
            found.append(step)
    return found[::-1]


def _reads(op: Operation) -> tuple[str, ...]:
    return tuple(op.inputs.values())


def computed_role(operator: str) -> str:
    """Return the name of the input that says of how many tokens of each sequence an operator gives a result."""
    return QUERIES if QUERIES in SCHEMAS[operator].inputs else LENGTHS


def lower(step: Block | Operation, packing: Packing = TWO_BITS) -> NodeProto:
    """Return the node of a block or of an operation, on weights so packed."""
    return step.node(packing) if isinstance(step, Block) else node_of(step, packing)


@cache
def canonical_block(operator: str) -> tuple[Operation, ...]:
    """Return the operations of a block's operator, with the names of its schema for inputs and output.

    Results in between keep the encoder's names. The result of the last operation holds values for
    padding as well, and is not yet the operator's: see `valid_only` of the function bodies.
    """
    shape = EncoderShape(
        family="bert", layers=1, hidden=1, heads=1, feed_forward=1, vocabulary=1, positions=1, token_types=1, labels=1
    )
    scaling = ActivationScaling.DYNAMIC_PER_TOKEN if operator.endswith(_PER_TOKEN) else ActivationScaling.STATIC
    quantization = Quantization(
        linear_weights=Granularity.PER_ROW, word_embedding=Granularity.PER_ROW, activations=scaling
    )
    encoder = build_encoder(shape, quantization)
    runs = ((block, tuple(run)) for block, run in groupby(encoder.operations, _block_of) if block)
    block = next(made for made in (_make_block(*which, run) for which, run in runs) if made.operator == operator)
    roles = dict(zip(SCHEMAS[operator].inputs, block.inputs, strict=True))
    names = {tensor: role for role, tensor in roles.items() if role != QUERIES}
    return tuple(_renamed(op, names) for op in block.operations)


def is_block(operator: str) -> bool:
    """Whether a custom operator computes a whole block."""
    return any(operator.removesuffix(_PER_TOKEN) == name for _, name in _BLOCKS)


def _block_of(op: Operation) -> tuple[str, str] | None:
    for pattern, operator in _BLOCKS:
        if match := pattern.fullmatch(op.name):
            return match.group(1), operator
    return None


def _make_block(name: str, operator: str, operations: tuple[Operation, ...]) -> Block:
    if any(op.kind is OpKind.QUANTIZE_PER_TOKEN for op in operations):
        operator += _PER_TOKEN
    by_role = {_role(name, tensor): tensor for tensor in (*_external(operations), LENGTHS)}
    by_role[QUERIES] = LENGTHS
    inputs = tuple(by_role[role] for role in SCHEMAS[operator].inputs)
    return Block(name, operator, operations, inputs, operations[-1].outputs[0])


def _external(operations: Sequence[Operation]) -> list[str]:
    """Return the tensors that the operations read and do not make, in the order of first use."""
    made = {output for op in operations for output in op.outputs}
    return [name for name in dict.fromkeys(n for op in operations for n in op.inputs.values()) if name not in made]


def _role(block: str, tensor: str) -> str:
    """Return the schema's name of a tensor that a block reads: its own name, shortened, or `x`."""
    if tensor.endswith(".output"):
        return "x"
    local = tensor.removeprefix(block + ".").removeprefix("layer_norm.").removeprefix("norm.")
    return local.replace("_quantizer", "").replace("_codes", "").replace(".", "_")


def _renamed(op: Operation, names: dict[str, str]) -> Operation:
    return replace(op, inputs={role: names.get(name, name) for role, name in op.inputs.items()})
