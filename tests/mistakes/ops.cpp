/// Mistakes with operations on whole tensors.
#include "mistakes/mistakes.h"

namespace libtrain::testing {

std::vector<Mistake> op_mistakes() {
  constexpr Kind kArgument = Kind::kInvalidArgument;
  const auto f32 = [](const Shape& shape) { return Tensor::zeros(shape); };
  const auto f64 = [](const Shape& shape) { return Tensor::zeros(shape, DType::f64); };
  const auto i32 = [](const Shape& shape) { return Tensor::zeros(shape, DType::i32); };
  const DropoutSpec too_much{.p = 1};
  return {
      {"adding what does not broadcast", kArgument, "got [2, 3] and [4, 3]: 2 against 4 in dimension -2", "[add]",
       "reshape() one of them",
       [=] {
         add(f32({2, 3}), f32({4, 3}));
       }},
      {"multiplying by the transposed", kArgument, "[2, 3] and [3, 2]", "[mul]", "did you mean transpose(b, -2, -1)?",
       [=] {
         mul(f32({2, 3}), f32({3, 2}));
       }},
      {"subtracting a column as a row", kArgument, "[4, 3] and [4]", "[sub]", "did you mean to reshape [4] to [4, 1]?",
       [=] {
         sub(f32({4, 3}), f32({4}));
       }},
      {"adding two dtypes", kArgument, "got f32[2] and f64[2]", "[add]", "cast() converts",
       [=] { add(f32({2}), f64({2})); }},
      {"dividing by nothing", kArgument, "got f32[2] and undefined", "[div]", "assign them first",
       [=] { div(f32({2}), Tensor()); }},
      {"the logarithm of integers", kArgument, "got i32", "[log]", "cast() converts", [=] { log(i32({2})); }},
      {"scaling integers", kArgument, "got i32", "[scale]", "cast() converts", [=] { scale(i32({2}), 2); }},

      {"a product of unlike sizes", kArgument, "[64, 512] × [256, 512]", "[matmul] inner sizes differ",
       "did you mean matmul(a, b, {.transpose_b = true})?",
       [=] {
         matmul(f32({64, 512}), f32({256, 512}));
       }},
      {"a product that no transposition makes", kArgument, "[2, 3] × [5, 7]", "[matmul]",
       "the last of a must be the last but one of b",
       [=] {
         matmul(f32({2, 3}), f32({5, 7}));
       }},
      {"a product with a vector", kArgument, "got f32[2, 3] × f32[3]", "[matmul]", "reshape() a vector to [n, 1]",
       [=] {
         matmul(f32({2, 3}), f32({3}));
       }},
      {"products of different batches", kArgument, "[2, 3, 4] × [5, 4, 3]", "[matmul] leading dimensions",
       "or one matrix b for all",
       [=] {
         matmul(f32({2, 3, 4}), f32({5, 4, 3}));
       }},
      {"a product of two dtypes", kArgument, "b must be f32[3, 2], got f64[3, 2]", "[matmul]", "cast() converts",
       [=] {
         matmul(f32({2, 3}), f64({3, 2}));
       }},
      {"a layer for other inputs", kArgument, "weight must be [out, 3] for x f32[2, 3], got f32[5, 4]", "[linear]",
       "its second size is the last of x",
       [=] {
         linear(f32({2, 3}), f32({5, 4}));
       }},
      {"a layer for inputs of another dtype", kArgument, "got f64[2, 3] and f32[5, 3]", "[linear] x", "cast() converts",
       [=] {
         linear(f64({2, 3}), f32({5, 3}));
       }},
      {"a layer for a scalar", kArgument, "got f32[]", "[linear] x", "reshape() it",
       [=] {
         linear(f32({}), f32({5, 4}));
       }},
      {"a bias of another width", kArgument, "must be f32[5], got f32[4]", "[linear] bias", "its sizes must agree",
       [=] {
         linear(f32({2, 3}), f32({5, 3}), f32({4}));
       }},
      {"an activation without columns", kArgument, "got f32[]", "[bias_activation] x", "reshape() it",
       [=] { bias_activation(f32({}), f32({1}), Activation::kRelu); }},

      {"a norm without columns", kArgument, "got f32[2, 0]", "[layer_norm] x", "reshape() it",
       [=] {
         layer_norm(f32({2, 0}), f32({0}), f32({0}));
       }},
      {"a norm of another width", kArgument, "must be f32[3], got f32[4]", "[layer_norm] weight",
       "its sizes must agree",
       [=] {
         layer_norm(f32({2, 3}), f32({4}), f32({3}));
       }},
      {"a norm whose epsilon is no number", kArgument, "got nan", "[layer_norm] epsilon", "1e-5 is usual",
       [=] {
         layer_norm(f32({2, 3}), f32({3}), f32({3}), std::nan(""));
       }},
      {"a norm by the root of less than nothing", kArgument, "got -1", "[rms_norm] epsilon", "1e-5 is usual",
       [=] {
         rms_norm(f32({2, 3}), f32({3}), -1);
       }},
      {"a norm that nobody gave", kArgument, "got undefined", "[rms_norm] x", "reshape() it",
       [=] { rms_norm(Tensor(), f32({3})); }},
      {"softmax along a dimension too many", kArgument, "expected one of the 2 dimensions of f32[2, 3], got 2",
       "[softmax]", "from 0, or back from -1",
       [=] {
         softmax(f32({2, 3}), 2);
       }},
      {"softmax of nothing", kArgument, "got undefined", "[log_softmax]", "assign one to it first",
       [] { log_softmax(Tensor()); }},
      {"a sum along a dimension too many", kArgument, "got -3", "[sum]", "back from -1",
       [=] {
         sum(f32({2, 3}), -3);
       }},
      {"a mean of nothing", kArgument, "got undefined", "[mean]", "assign one to it first", [] { mean(Tensor()); }},
      {"the maximum of no elements", kArgument, "dimension 1 of f32[2, 0]", "[max]", "reduce another dimension",
       [=] {
         max(f32({2, 0}), 1);
       }},

      {"narrow beyond the end", kArgument, "dimension 1 of f32[2, 3], got 2 from 2 on", "[narrow]",
       "start counts from 0",
       [=] {
         narrow(f32({2, 3}), 1, 2, 2);
       }},
      {"narrow along no dimension", kArgument, "dimension 5 of a tensor that has 2", "[narrow]",
       "from 0, or back from -1",
       [=] {
         narrow(f32({2, 3}), 5, 0, 1);
       }},
      {"joining nothing", kArgument, "got 0", "[concat]", "pass those to be joined", [] { concat({}, 0); }},
      {"joining unlike widths", kArgument, "got f32[2, 4]", "[concat]", "its sizes must agree",
       [=] {
         concat({f32({2, 3}), f32({2, 4})}, 0);
       }},
      {"a slice that ends before it begins", kArgument, "begin 2 and end 1", "[slice]", "one past the last",
       [=] { slice(f32({3}), 2, 1); }},
      {"a permutation that repeats", kArgument, "each of the 2 dimensions of f32[2, 3] once in the order of 2",
       "[permute]", "{1, 0} exchanges",
       [=] {
         permute(f32({2, 3}), {0, 0});
       }},
      {"a permutation of five dimensions", kArgument, "got f32[1, 1, 1, 1, 2]", "[permute]", "reshape() merges",
       [=] {
         permute(f32({1, 1, 1, 1, 2}), {4, 3, 2, 1, 0});
       }},
      {"transposing a vector", kArgument, "dimension 1 of a tensor that has 1", "[transpose]", "back from -1",
       [=] { transpose(f32({3}), 0, 1); }},

      {"a mask of floats", kArgument, "got f32[2]", "[where]", "cast() converts",
       [=] { where(f32({2}), f32({2}), f32({2})); }},
      {"a mask larger than what it masks", kArgument, "got i32[3, 2] and f32[2]", "[masked_fill]",
       "where() broadcasts both ways",
       [=] {
         masked_fill(f32({2}), i32({3, 2}), 0);
       }},
      {"a row that is not there", kArgument, "index 7 at position 1 is outside [0, 3)", "[index_select]",
       "they count from 0",
       [=] {
         index_select(f32({3, 2}), Tensor::from({0, 7}, {2}));
       }},
      {"picking rows by a matrix", kArgument, "got i32[2, 1]", "[index_select] index", "cast() and reshape() convert",
       [=] {
         index_select(f32({3, 2}), i32({2, 1}));
       }},
      {"picking rows by floats", kArgument, "must be i32[2], got f32[2]", "[index_select] index", "cast() converts",
       [=] {
         index_select(f32({3, 2}), f32({2}));
       }},
      {"unpacking a row that is not there", kArgument, "below 3, the rows of x, got 3 at position 1", "[unpack_rows]",
       "unpack_index() makes it",
       [=] {
         unpack_rows(f32({3, 2}), Tensor::from({0, 3}, {2}));
       }},
      {"unpacking a row twice", kArgument, "got 1 again at position 2", "[unpack_rows]",
       "index_select() takes rows more",
       [=] {
         unpack_rows(f32({3, 2}), Tensor::from({1, -1, 1}, {3}));
       }},
      {"unpacking a vector", kArgument, "got f32[3]", "[unpack_rows] x", "reshape() it",
       [=] { unpack_rows(f32({3}), i32({1})); }},

      {"dropping everything", kArgument, "got 1", "[dropout] p", "0 turns it off",
       [=] {
         dropout(f32({2, 3}), too_much);
       }},
      {"dropout of a scalar", kArgument, "got f32[]", "[dropout] x", "reshape() it", [=] { dropout(f32({}), {}); }},
      {"dropout of packed rows in three dimensions", kArgument, "got f32[1, 2, 3]", "[dropout] packed x",
       "or pass no packing",
       [=] {
         Tape tape;
         Parameters parameters;
         dropout(f32({1, 2, 3}), make_packing(std::vector<int64_t>{2}), {0.5f, 1, parameters.random_state()});
       }},
      {"dropout without random numbers", kArgument, "must be i64[2], got undefined", "[dropout] random_state",
       "assign a tensor to it first",
       [=] {
         Tape tape;
         dropout(f32({2, 3}), {.p = 0.5f});
       }},
      {"a sum whose norm's epsilon is negative", kArgument, "got -1e-05", "[add_dropout_layer_norm] epsilon",
       "1e-5 is usual",
       [=] {
         add_dropout_layer_norm(f32({2, 3}), f32({2, 3}), {}, f32({3}), f32({3}), {}, {}, -1e-5);
       }},
      {"a residual without columns", kArgument, "got f32[]", "[add_dropout_layer_norm] residual", "reshape() it",
       [=] { add_dropout_layer_norm(f32({}), f32({}), {}, f32({1}), f32({1}), {}, {}, 1e-5); }},

      {"the loss of integers", kArgument, "got i32", "[mse_loss]", "cast() converts",
       [=] { mse_loss(i32({2}), i32({2})); }},
      {"the loss of nothing", kArgument, "expected predictions, got undefined", "[mse_loss]", "assign a tensor to them",
       [=] { mse_loss(Tensor(), f32({2})); }},
      {"targets of another shape", kArgument, "must be f32[2], got f32[3]", "[mse_loss] targets",
       "its sizes must agree", [=] { mse_loss(f32({2}), f32({3})); }},
      {"targets in another order", kArgument, "got f32[3, 2]", "[binary_cross_entropy_with_logits] targets",
       "reshape() it",
       [=] {
         binary_cross_entropy_with_logits(f32({2, 3}), f32({3, 2}));
       }},
  };
}

}  // namespace libtrain::testing
