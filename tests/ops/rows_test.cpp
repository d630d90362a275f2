/// embedding, slice and unpack_rows: what the table cannot say.
#include "any_threads.h"
#include "catch.h"
#include "embedding_checks.h"

namespace libtrain::testing {
namespace {

Tensor ids_of(std::initializer_list<int32_t> values) { return Tensor::from(values, {int64_t(values.size())}); }

/// 0, 1, 2, … in f64
Tensor counting(const Shape& shape) {
  Values values(static_cast<size_t>(shape.numel()));
  for (size_t i = 0; i < values.size(); ++i) values[i] = double(i);
  return Tensor::from(std::span<const double>(values), shape);
}

}  // namespace

TEST_CASE("embedding: padding gives zeros and takes no gradient, even from a table row of NaN") {
  const Tensor table = counting({3, 2});
  table.view<double>().data[0] = NAN;
  table.set_requires_grad();
  Tape tape;
  const Tensor y = embedding(ids_of({2, 0, 2, 0}), table, 10, {}, {}, 0);
  CHECK(values_of(y) == Values{40, 50, 0, 0, 40, 50, 0, 0});
  tape.backward(y, counting({4, 2}));
  CHECK(values_of(table.grad()) == Values{0, 0, 0, 0, 40, 60});
}

TEST_CASE("embedding: ids of any shape, positions added unscaled") {
  const Tensor ids = ids_of({1, 0, 1, 1}).reshape({2, 2}), positions = ids_of({0, 1, 1, 0}).reshape({2, 2});
  const Tensor y = embedding(ids, counting({2, 1}), 100, counting({2, 1}), positions);
  CHECK(y.shape() == Shape{2, 2, 1});
  CHECK(values_of(y) == Values{100, 1, 101, 100});
}

TEST_CASE("embedding: a position table that wants a gradient, which it would not get, is refused") {
  const Tensor ids = Tensor::from<int32_t>({1, 0}, {2}), table = Tensor::full({3, 4}, 1);
  const Tensor learnt = Tensor::full({2, 4}, 1).set_requires_grad();
  CHECK_THROWS_WITH(embedding(ids, table, 1, learnt, ids),
                    Catch::Matchers::Contains("position_table f32[2, 4] wants a gradient"));
}

TEST_CASE("embedding: the gradient of a bf16 table is f32, and a shared table collects from both users") {
  const Tensor table = Tensor::full({2, 2}, 1, DType::bf16);
  table.set_requires_grad();
  Tape tape;
  const Tensor x = embedding(Tensor::zeros({1000}, DType::i32), table);
  const Tensor y = linear(x, table);
  tape.backward(y, Tensor::full(y.shape(), 1, DType::bf16));
  CHECK(table.grad().dtype() == DType::f32);
  CHECK(values_of(table.grad()) == Values{3000, 3000, 1000, 1000});
}

TEST_CASE("embedding: with dropout, the bits of the two one after the other") { check_dropped_embedding(Device::kCpu); }

TEST_CASE("packing: more tokens than the capacity are refused, of a capacity of 0, too") {
  CHECK_THROWS_WITH(make_packing(std::vector<int64_t>{2, 1}, Device::kCpu, 2),
                    "[packing] 3 tokens do not fit a capacity of 2; without one, it is exact");
  CHECK_THROWS_WITH(make_packing(std::vector<int64_t>{2}, Device::kCpu, 0),
                    "[packing] 2 tokens do not fit a capacity of 0; without one, it is exact");
}

TEST_CASE("embedding: with dropout, arguments are checked, and without a tape nothing is dropped") {
  const Tensor ids = ids_of({1, 0, 1}), table = counting({2, 1}), state = Tensor::from<int64_t>({1, 2}, {2});
  const Packing packing = make_packing(std::vector<int64_t>{2, 1}), two = make_packing(std::vector<int64_t>{2});
  CHECK(values_of(embedding(ids, table, 3, {}, packing, -1, {0.9f, 0, state})) == Values{3, 0, 3});
  CHECK(values_of(embedding(ids, table, 3, counting({2, 1}), packing, -1, {0.9f, 0, state})) == Values{3, 1, 3});
  CHECK_THROWS_WITH(embedding(ids, table, 1, {}, packing, -1, {1.5f, 0, state}),
                    "[embedding] p must be in [0, 1), got 1.5; 0 turns it off, 0.1 is usual");
  CHECK_THROWS_WITH(
      embedding(ids, table, 1, counting({2, 1}), two, -1, {}),
      "[embedding] positions must be i32[3], got i32[2]; its sizes must agree with those of the other arguments");
  const Tape tape;
  CHECK_THROWS_WITH(embedding(ids, table, 1, {}, two, -1, {0.5f, 0, state}),
                    "[embedding] packing.positions must be i32[3], got i32[2]; its sizes must agree with those of the "
                    "other arguments");
}

TEST_CASE("embedding: the same bits from any number of threads") {
  Values values(4000);
  Generator generator(3);
  integers(0, 50)(values, generator);
  const Tensor ids = Tensor::from(std::span<const double>(values), {4000}).cast(DType::i32);
  const Tensor table = Tensor::full({50, 33}, 0.1), upstream = Tensor::full({4000, 33}, 0.1);
  table.set_requires_grad();
  const auto gradient = [&] {
    Tape tape;
    tape.backward(embedding(ids, table, 0.3), upstream);
    const Values result = values_of(table.grad());
    table.clear_grad();
    return result;
  };
  same_with_any_threads(gradient);
}

TEST_CASE("embedding: arguments are checked") {
  const Tensor table = Tensor::zeros({5, 2}), ids = ids_of({1, 4});
  CHECK_THROWS_WITH(
      embedding(ids_of({1, 5, 0}), table),
      "[embedding] id 5 at row 1 is outside [0, 5), the vocabulary; encode the text with the model's own");
  CHECK_THROWS_WITH(
      embedding(ids_of({1, 2, -1}), table),
      "[embedding] id -1 at row 2 is outside [0, 5), the vocabulary; encode the text with the model's own");
  CHECK_THROWS_WITH(embedding(ids, table, 1, Tensor::zeros({7, 2}), ids_of({0, 7})),
                    "[embedding] position 7 at row 1 is outside [0, 7), the length of position_table; shorten the "
                    "sequence or raise max_positions");
  CHECK_NOTHROW(embedding(ids, table, 1, Tensor::zeros({7, 2}), ids_of({0, 7}), 4));  // padding has no position
  CHECK_THROWS_WITH(embedding(ids, table, 1, Tensor::zeros({7, 2})),
                    "[embedding] position_table and positions must be given together, got f32[7, 2] and undefined; "
                    "pass both or neither");
  CHECK_THROWS_WITH(embedding(ids, table, 1, Tensor::zeros({7, 3}), ids),
                    "[embedding] position_table must be f32[7, 2], got f32[7, 3]; its sizes must agree with those of "
                    "the other arguments");
  CHECK_THROWS_WITH(
      embedding(ids, table, 1, Tensor::zeros({7}), ids),
      "[embedding] position_table must be [max positions, columns], got f32[7]; sinusoidal_positions() makes one");
  CHECK_THROWS_WITH(
      embedding(ids, table, 1, Tensor::zeros({7, 2}), ids_of({1})),
      "[embedding] positions must be i32[2], got i32[1]; its sizes must agree with those of the other arguments");
  CHECK_THROWS_WITH(embedding(ids, table, 1, {}, {}, 5),
                    "[embedding] pad_id must be -1 (none) or below the vocabulary of 5, got 5; kPad is 0");
  CHECK_THROWS_WITH(embedding(ids, Tensor::zeros({5})),
                    "[embedding] table must be [vocab, columns], got f32[5]; reshape() it");
  CHECK_THROWS_WITH(embedding(Tensor::zeros({2}), table),
                    "[embedding] ids must be i32[2], got f32[2]; cast() converts");
  CHECK_THROWS_WITH(embedding({}, table), "[embedding] ids must be i32[tokens], got undefined; cast() converts");
  CHECK_THROWS_WITH(embedding(ids, Tensor::zeros({5, 2}, DType::i32)),
                    "[embedding] expected a float dtype (f32, bf16, f64), got i32; cast() converts");
}

TEST_CASE("sinusoidal_positions: sines and cosines of the paper") {
  const Tensor table = sinusoidal_positions(50, 6, DType::f64);
  const Values values = values_of(table);
  CHECK(values[0] == 0);
  CHECK(values[1] == 1);
  CHECK(std::abs(values[7 * 6 + 2] - std::sin(7 / std::pow(10000, 2 / 6.0))) <= 1e-15);
  CHECK(std::abs(values[49 * 6 + 5] - std::cos(49 / std::pow(10000, 4 / 6.0))) <= 1e-15);
  CHECK(sinusoidal_positions(3, 5).spec() == "f32[3, 5]");
  CHECK_THROWS_AS(sinusoidal_positions(-1, 4), InvalidArgument);
  CHECK_THROWS_WITH(sinusoidal_positions(int64_t(1) << 62, 4), Catch::Matchers::Contains("whose product fits 63 bits"));
  CHECK_THROWS_AS(sinusoidal_positions(std::numeric_limits<int64_t>::max(), 1), OutOfMemory);
}

TEST_CASE("slice: shares the elements of x, and rows outside get gradient zero") {
  const Tensor x = counting({4, 2});
  x.set_requires_grad();
  Tape tape;
  const Tensor part = slice(x, 1, 3);
  CHECK(part.view<double>().data == x.view<double>().data + 2);
  tape.backward(part, counting({2, 2}));
  CHECK(values_of(x.grad()) == Values{0, 0, 0, 1, 2, 3, 0, 0});
}

TEST_CASE("slice: of a bf16 parameter collects gradients in f32, of an activation in bf16") {
  const Tensor x = Tensor::full({300, 2}, 1, DType::bf16), weight = Tensor::full({3, 2}, 1, DType::bf16);
  x.set_requires_grad();
  weight.set_requires_grad();
  Tape tape;
  const Tensor y = add(linear(slice(x, 0, 300), slice(weight, 0, 1)), linear(x, slice(weight, 2, 3)));
  tape.backward(y, Tensor::full(y.shape(), 1, DType::bf16));
  CHECK(weight.grad().dtype() == DType::f32);
  CHECK(values_of(weight.grad()) == Values{300, 300, 0, 0, 300, 300});
  CHECK(x.grad().dtype() == DType::bf16);
  CHECK(values_of(x.grad()) == Values(600, 2));
}

TEST_CASE("slice: a slice of a slice") {
  const Tensor x = counting({6});
  x.set_requires_grad();
  Tape tape;
  const Tensor part = slice(slice(x, 1, 5), 2, 4);
  CHECK(values_of(part) == Values{3, 4});
  tape.backward(part, counting({2}));
  CHECK(values_of(x.grad()) == Values{0, 0, 0, 0, 1, 0});
}

TEST_CASE("layer_norm: rows without columns are refused") {
  CHECK_THROWS_WITH(layer_norm(Tensor::zeros({3, 0}), Tensor::zeros({0}), Tensor::zeros({0})),
                    "[layer_norm] x must be [..., columns], got f32[3, 0]; reshape() it");
  CHECK_THROWS_WITH(layer_norm(Tensor::full({}, 1), Tensor::zeros({1}), Tensor::zeros({1})),
                    "[layer_norm] x must be [..., columns], got f32[]; reshape() it");
}

TEST_CASE("slice and unpack_rows: arguments are checked") {
  const Tensor x = Tensor::zeros({4, 2});
  CHECK_THROWS_WITH(slice(x, 2, 5),
                    "[slice] expected 0 <= begin <= end <= the first dimension of f32[4, 2], got begin 2 and end 5; "
                    "end is one past the last");
  CHECK_THROWS_AS(slice(x, -1, 2), InvalidArgument);
  CHECK_THROWS_AS(slice(x, 3, 2), InvalidArgument);
  CHECK_THROWS_AS(slice(Tensor::full({}, 1), 0, 1), InvalidArgument);
  CHECK_THROWS_WITH(unpack_rows(x, ids_of({0, 4})),
                    "[unpack_rows] expected entries of index below 4, the rows of x, got 4 at position 1; "
                    "unpack_index() makes it from a packing");
  CHECK_THROWS_WITH(unpack_rows(x, ids_of({2, -1, 2})),
                    "[unpack_rows] expected distinct entries in index, got 2 again at position 2; index_select() takes "
                    "rows more than once");
  CHECK_THROWS_WITH(unpack_rows(x, Tensor::zeros({2})),
                    "[unpack_rows] index must be i32[2], got f32[2]; cast() converts");
  CHECK_THROWS_WITH(unpack_rows(x, {}),
                    "[unpack_rows] index must be i32[rows], got undefined; unpack_index(…).reshape({-1}) makes it");
  CHECK_THROWS_WITH(unpack_rows(Tensor::zeros({4}), ids_of({0})),
                    "[unpack_rows] x must be [tokens, columns], got f32[4]; reshape() it");
}

}  // namespace libtrain::testing
