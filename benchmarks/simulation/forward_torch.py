"""PyTorch's side of forward.py: a float32 pass of BERT-base for every line that comes in.

`python -m benchmarks.simulation.forward_torch THREADS`
"""

from __future__ import annotations

import sys

import torch
from transformers import BertConfig, BertModel

from benchmarks.simulation.forward_side import TOKENS, Forward, answer


def torch_forward(threads: int) -> Forward:
    """Return the pass of transformers' BertModel over one sentence of random tokens."""
    torch.set_num_threads(threads)
    model = BertModel(BertConfig()).eval()  # the defaults are BERT-base
    tokens = torch.randint(0, model.config.vocab_size, (1, TOKENS))

    def forward() -> object:
        with torch.inference_mode():
            return model(input_ids=tokens)

    return forward


if __name__ == "__main__":
    answer(torch_forward(int(sys.argv[1])))
