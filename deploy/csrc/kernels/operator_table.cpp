#include "kernels/operator.h"
#include "kernels/operators_attention.h"
#include "kernels/operators_linear.h"
#include "kernels/operators_pointwise.h"

namespace ti_qat {
namespace {

constexpr ElementType F = ElementType::kFloat32;
constexpr ElementType P = ElementType::kUint8;
constexpr ElementType C = ElementType::kInt8;
constexpr ElementType I = ElementType::kInt32;

}  // namespace

// deploy/operators.py declares the same names and types to ONNX.
const OperatorSpec kOperators[kOperatorCount] = {
    {"Quantize", 2, {"x", "scale"}, {F, F}, 1, {C}, false, kNone, prepare_quantize, run_quantize},
    {"QuantizePerToken", 1, {"x"}, {F}, 2, {C, F}, false, kNone, prepare_quantize_per_token, run_quantize_per_token},
    {"TernaryLinear",
     5,
     {"codes", "scale", "weight", "weight_scale", "bias"},
     {C, F, P, F, F},
     1,
     {F},
     false,
     2,
     prepare_ternary_linear,
     run_ternary_linear},
    {"TernaryEmbedding",
     6,
     {"input_ids", "token_type_ids", "word", "word_scale", "position", "token_type"},
     {I, I, P, F, F, F},
     1,
     {F},
     false,
     2,
     prepare_ternary_embedding,
     run_ternary_embedding},
    {"LayerNorm",
     4,
     {"x", "gamma", "beta", "epsilon"},
     {F, F, F, F},
     1,
     {F},
     false,
     kNone,
     prepare_layer_norm,
     run_layer_norm},
    {"AttentionScores",
     4,
     {"query", "query_scale", "key", "key_scale"},
     {C, F, C, F},
     1,
     {F},
     true,
     kNone,
     prepare_attention_scores,
     run_attention_scores},
    {"Softmax", 2, {"x", "lengths"}, {F, I}, 1, {F}, false, kNone, prepare_softmax, run_softmax},
    {"AttentionContext",
     4,
     {"probabilities", "probabilities_scale", "value", "value_scale"},
     {C, F, C, F},
     1,
     {F},
     true,
     kNone,
     prepare_attention_context,
     run_attention_context},
    {"Gelu", 1, {"x"}, {F}, 1, {F}, false, kNone, prepare_pointwise, run_gelu},
    {"Tanh", 1, {"x"}, {F}, 1, {F}, false, kNone, prepare_pointwise, run_tanh},
    {"Classifier", 3, {"x", "weight", "bias"}, {F, F, F}, 1, {F}, false, kNone, prepare_classifier, run_classifier},
};

}  // namespace ti_qat
