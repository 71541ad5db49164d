"""`python -m tests.deploy.fuzz BUNDLE FILE SEED COUNT`: opens COUNT damaged copies of a bundle and classifies.

Each has FILE flipped, cut, spliced or grown at random, with the checksums repaired; with `structure` for FILE the
model stays a model, with other shapes, types, attributes, operators and inputs. Prints how many were refused,
refused the text, and worked. Anything but our typed errors ends it with a traceback; a crash ends it too.
"""

from __future__ import annotations

import hashlib
import json
import random
import resource
import shutil
import sys
import tempfile
from collections import Counter
from collections.abc import MutableSequence
from pathlib import Path

import onnx

from deploy.operators import DOMAIN, SCHEMAS
from deploy.runtime import BundleError, Classifier, InferenceError

MEMORY_BYTES = 6 << 30
TEXTS = ["a good film", "not a fine film not a fine film not a fine film", ""]


def damaged(content: bytes, random_source: random.Random) -> bytes:
    """Return the bytes with one to a few random changes."""
    data = bytearray(content)
    for _ in range(random_source.choice((1, 1, 1, 2, 4, 16))):
        at, size = random_source.randrange(len(data) or 1), random_source.choice((1, 1, 2, 8, 64))
        kind = random_source.randrange(6)
        if kind == 0 and data:
            data[at] ^= 1 << random_source.randrange(8)
        elif kind == 1 and data:
            data[at] = random_source.choice((0, 1, 0x7F, 0x80, 0xFF, random_source.randrange(256)))
        elif kind == 2:
            del data[at : at + size]
        elif kind == 3:
            data[at:at] = random_source.randbytes(size)
        elif kind == 4:
            data[at:at] = data[at : at + size]
        elif random_source.randrange(4) == 0:
            del data[at:]
    return bytes(data)


def restructured(content: bytes, random_source: random.Random) -> bytes:
    """Return a model whose parts were changed one by one."""
    model = onnx.ModelProto.FromString(content)
    for _ in range(random_source.choice((1, 1, 2, 4))):
        if random_source.randrange(2):
            _change_tensor(random_source.choice(model.graph.initializer), random_source)
        elif random_source.randrange(3):
            _change_nodes(model.graph.node, random_source)
        elif random_source.randrange(3):
            _change_nodes(random_source.choice(model.functions).node, random_source)
        else:
            _change_frame(model, random_source)
    return model.SerializeToString()


def _change_tensor(tensor: onnx.TensorProto, random_source: random.Random) -> None:
    kind = random_source.randrange(4)
    if kind == 0 and tensor.dims:
        index = random_source.randrange(len(tensor.dims))
        size = tensor.dims[index]
        tensor.dims[index] = random_source.choice((0, 1, -1, size + 1, size - 1, 2 * size, 1 << 31, 1 << 40, 1 << 62))
    elif kind == 1:
        random_source.shuffle(dims := list(tensor.dims))
        tensor.dims[:] = random_source.choice((dims, [*dims, 1], [1, *dims], dims[1:]))
    elif kind == 2:
        tensor.data_type = random_source.randrange(1, 24)
    elif kind == 3 and tensor.external_data:
        random_source.choice(tensor.external_data[1:]).value = str(random_source.randrange(1 << 14))


def _change_nodes(nodes: MutableSequence[onnx.NodeProto], random_source: random.Random) -> None:
    if not nodes:
        return
    names = [name for node in nodes for name in (*node.input, *node.output)] + [""]
    index = random_source.randrange(len(nodes))
    node, kind = nodes[index], random_source.randrange(8)
    if kind == 0 and node.input:
        node.input[random_source.randrange(len(node.input))] = random_source.choice(names)
    elif kind == 1 and node.input:
        del node.input[random_source.randrange(len(node.input))]
    elif kind == 2:
        node.input.append(random_source.choice(names))
    elif kind == 3:
        node.op_type = random_source.choice((*SCHEMAS, *(other.op_type for other in nodes)))
        node.domain = random_source.choice(("", DOMAIN))
    elif kind == 4 and node.attribute:
        random_source.choice(node.attribute).i = random_source.choice((0, -1, 1, 2, 5, 1 << 31, 1 << 62, -(1 << 63)))
    elif kind == 5 and node.attribute:
        del node.attribute[random_source.randrange(len(node.attribute))]
    elif kind == 6:
        node.output[random_source.randrange(len(node.output))] = random_source.choice(names)
    else:
        del nodes[index]


def _change_frame(model: onnx.ModelProto, random_source: random.Random) -> None:
    kind = random_source.randrange(4)
    if kind == 0:
        random_source.choice(model.opset_import).version = random_source.choice((0, 1, 7, 13, 17, 25, 99, 1 << 40))
    elif kind == 1:
        model.ir_version = random_source.choice((0, 3, 7, 9, 12, 99))
    elif kind == 2:
        value = random_source.choice((*model.graph.input, *model.graph.output)).type.tensor_type
        value.elem_type = random_source.randrange(1, 17)
    else:
        del model.functions[random_source.randrange(len(model.functions))]


def attempt(bundle: Path) -> str:
    """Return how far a bundle gets."""
    try:
        with Classifier.load(bundle, threads=1) as classifier:
            try:
                classifier(TEXTS, batch_size=2)
            except InferenceError:
                return "refused the text"
        return "worked"
    except BundleError:
        return "refused"


def main(source: Path, name: str, seed: int, count: int) -> None:
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY_BYTES, MEMORY_BYTES))
    change = restructured if name == "structure" else damaged
    name = "model.onnx" if name == "structure" else name
    content = (source / name).read_bytes()
    manifest = json.loads((source / "bundle.json").read_text())
    outcomes: Counter[str] = Counter()
    with tempfile.TemporaryDirectory() as folder:
        bundle = Path(folder) / "bundle"
        shutil.copytree(source, bundle)
        for number in range(seed, seed + count):
            changed = change(content, random.Random(number))
            (bundle / name).write_bytes(changed)
            if name in manifest["files"]:
                manifest["files"][name] = hashlib.sha256(changed).hexdigest()
                (bundle / "bundle.json").write_text(json.dumps(manifest))
            print(f"damage {number} of {name}", file=sys.stderr, flush=True)
            outcomes[attempt(bundle)] += 1
    print(json.dumps(outcomes))


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2], int(sys.argv[3]), int(sys.argv[4]))
