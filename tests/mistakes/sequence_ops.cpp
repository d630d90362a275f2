/// Mistakes with operations on sequences: attention, embeddings and losses.
#include "mistakes/mistakes.h"

namespace libtrain::testing {

std::vector<Mistake> sequence_op_mistakes() {
  constexpr Kind kArgument = Kind::kInvalidArgument;
  const auto f32 = [](const Shape& shape) { return Tensor::zeros(shape); };
  const auto i32 = [](const Shape& shape) { return Tensor::zeros(shape, DType::i32); };
  const auto with_ends = [=](std::initializer_list<int32_t> ends) {
    Packing packing = packing_of({3, 2});
    packing.cu_seqlens = Tensor::from(ends, {int64_t(ends.size())});
    self_attention(f32({5, 12}), packing, {.heads = 2});
  };
  return {
      {"attention to a packing that is empty", kArgument, "packing is empty", "[self_attention]",
       "make_packing() makes one from lengths",
       [=] {
         self_attention(f32({5, 12}), {}, {});
       }},
      {"attention with rows of another packing", kArgument, "describes 3 tokens, got f32[5, 12]",
       "[self_attention] packing", "the packing that the rows were made with",
       [=] {
         self_attention(f32({5, 12}), packing_of({3}), {});
       }},
      {"attention whose sequences begin late", kArgument, "got 1", "packing.cu_seqlens must begin with 0",
       "from lengths",
       [=] {
         with_ends({1, 3, 5});
       }},
      {"attention whose sequences run backwards", kArgument, "sequence 1 is rows [3, 1)", "packing.cu_seqlens",
       "make_packing() makes them agree",
       [=] {
         with_ends({0, 3, 1});
       }},
      {"attention beyond the last row", kArgument, "sequence 1 is rows [3, 9) of 5", "[self_attention]",
       "make_packing() makes them agree",
       [=] {
         with_ends({0, 3, 9});
       }},
      {"attention to a longer sequence than was said", kArgument, "rows [0, 5) of 5, max_length is 3",
       "packing.cu_seqlens", "makes them agree",
       [=] {
         with_ends({0, 5, 5});
       }},
      {"attention to queries alone", kArgument, "got f32[5, 4]", "[self_attention] qkv", "reshape() or project it",
       [=] {
         self_attention(f32({5, 4}), packing_of({5}), {});
       }},
      {"heads that do not divide the width", kArgument, "the width 4, got 3", "[self_attention] heads",
       "another number of heads",
       [=] {
         self_attention(f32({5, 12}), packing_of({5}), {.heads = 3});
       }},
      {"attention that drops everything", kArgument, "got 1.5", "[self_attention] dropout.p", "0 turns it off",
       [=] {
         self_attention(f32({5, 12}), packing_of({5}), {.dropout = {.p = 1.5f}});
       }},
      {"causal attention across", kArgument, "positions of different sequences", "[cross_attention] cannot be causal",
       "leave .causal at false",
       [=] {
         cross_attention(f32({5, 4}), f32({5, 8}), packing_of({5}), packing_of({5}), {.causal = true});
       }},
      {"attention across to more sequences", kArgument, "queries have 1 sequences, keys 2", "[cross_attention]",
       "be it empty",
       [=] {
         cross_attention(f32({5, 4}), f32({5, 8}), packing_of({5}), packing_of({3, 2}), {});
       }},
      {"attention across to keys without values", kArgument, "got f32[5]", "[cross_attention] kv",
       "keys and values stand side by side",
       [=] {
         cross_attention(f32({5, 4}), f32({5}), packing_of({5}), packing_of({5}), {});
       }},

      {"an id that the table does not have", kArgument, "id 3 at row 1 is outside [0, 3)", "[embedding]",
       "encode the text with the model's own",
       [=] {
         embedding(Tensor::from({0, 3}, {2}), f32({3, 4}));
       }},
      {"an id of a matrix that the table does not have", kArgument, "id -1", "[embedding]",
       "row 1, position 0 is outside [0, 3)",
       [=] {
         embedding(Tensor::from({0, 1, -1, 2}, {2, 2}), f32({3, 4}));
       }},
      {"ids in floats", kArgument, "must be i32[2], got f32[2]", "[embedding] ids", "cast() converts",
       [=] {
         embedding(f32({2}), f32({3, 4}));
       }},
      {"a table of one dimension", kArgument, "got f32[3]", "[embedding] table", "reshape() it",
       [=] { embedding(i32({2}), f32({3})); }},
      {"padding that the table does not have", kArgument, "vocabulary of 3, got 3", "[embedding] pad_id", "kPad is 0",
       [=] {
         embedding(i32({2}), f32({3, 4}), 1, {}, {}, 3);
       }},
      {"positions without a table for them", kArgument, "got undefined and i32[2]", "[embedding] position_table",
       "pass both or neither",
       [=] {
         embedding(i32({2}), f32({3, 4}), 1, {}, i32({2}));
       }},
      {"positions of negative number", kArgument, "got -1 and 4", "[sinusoidal_positions]",
       "count positions and columns", [] { sinusoidal_positions(-1, 4); }},

      {"a target beyond the classes", kArgument, "target 7 at row 0, position 1", "[cross_entropy]",
       "encode with the vocabulary of the model",
       [=] {
         cross_entropy(f32({1, 2, 5}), Tensor::from({4, 7}, {1, 2}));
       }},
      {"a negative target that is not the ignored one", kArgument, "target -1 at position 0", "[linear_cross_entropy]",
       "is not ignore_index (-100)",
       [=] {
         linear_cross_entropy(f32({1, 4}), f32({5, 4}), {}, Tensor::from({-1}, {1}));
       }},
      {"targets for other rows", kArgument, "must be i32[2], got i32[3]", "[cross_entropy] targets",
       "its sizes must agree",
       [=] {
         cross_entropy(f32({2, 5}), i32({3}));
       }},
      {"no classes", kArgument, "got 0", "[cross_entropy] expected at least one class", "the last dimension",
       [=] {
         cross_entropy(f32({2, 0}), i32({2}));
       }},
      {"smoothing everything", kArgument, "got 1", "[cross_entropy] label_smoothing", "0.1 is usual",
       [=] {
         cross_entropy(f32({2, 5}), i32({2}), -100, 1);
       }},
      {"logits without classes", kArgument, "got f32[]", "[cross_entropy] logits", "the last dimension is the classes",
       [=] { cross_entropy(f32({}), i32({})); }},
      {"a weight times itself", kArgument, "are one tensor", "[linear_cross_entropy] x and weight",
       "use cross_entropy(linear(x, weight), targets)",
       [=] {
         const Tensor both = f32({4, 4});
         linear_cross_entropy(both, both, {}, i32({4}));
       }},
      {"chunks of nothing", kArgument, "got 0", "[linear_cross_entropy] chunk_elements", "leave it out for the default",
       [=] {
         linear_cross_entropy(f32({1, 4}), f32({5, 4}), {}, i32({1}), -100, 0, 0);
       }},
      {"the mean of losses that were not summed", kArgument, "got f32[2]", "[token_loss] sum", "sum() reduces",
       [=] {
         TokenLoss{f32({2}), Tensor::zeros({}, DType::i64)}.mean();
       }},
  };
}

}  // namespace libtrain::testing
