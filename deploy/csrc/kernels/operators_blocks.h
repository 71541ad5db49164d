// Whole blocks of the encoder. Tokens at or beyond a sequence's length, or beyond those that ask in attention, are not
// computed; their results are zero.
#pragma once

#include "kernels/operator.h"

namespace ti_qat {

void prepare_embedding_norm(const Request& request, Output* outputs);
void run_embedding_norm(const Request& request, Output* outputs, const KernelTable& kernels, const Parallel& parallel);

void prepare_attention_block(const Request& request, Output* outputs);
void run_attention_block(const Request& request, Output* outputs, const KernelTable& kernels, const Parallel& parallel);
void prepare_attention_block_per_token(const Request& request, Output* outputs);
void run_attention_block_per_token(const Request& request, Output* outputs, const KernelTable& kernels,
                                   const Parallel& parallel);

void prepare_feed_forward_block(const Request& request, Output* outputs);
void run_feed_forward_block(const Request& request, Output* outputs, const KernelTable& kernels,
                            const Parallel& parallel);
void prepare_feed_forward_block_per_token(const Request& request, Output* outputs);
void run_feed_forward_block_per_token(const Request& request, Output* outputs, const KernelTable& kernels,
                                      const Parallel& parallel);

}  // namespace ti_qat
