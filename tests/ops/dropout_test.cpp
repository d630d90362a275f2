/// Philox, dropout and dropout_add: what the table cannot say.
#include "any_threads.h"
#include "catch.h"
#include "op_cases.h"

namespace libtrain::testing {
namespace {

Tensor random_state(int64_t seed = 1, int64_t step = 2) { return Tensor::from({seed, step}, {2}); }

Values dropped(const Tensor& x, const DropoutSpec& spec, const Packing& packing = {}) {
  const Tape tape;
  return values_of(dropout(x, packing, spec));
}

double share_kept(float p) {
  const Tensor ones = Tensor::full({1000, 1000}, 1);
  double kept = 0;
  for (const double value : dropped(ones, {p, 1, random_state()})) kept += value != 0;
  return kept / 1e6;
}

}  // namespace

TEST_CASE("philox: known answers of the Random123 distribution") {
  using Words = std::array<uint32_t, 4>;
  CHECK(philox<7>({0, 0, 0, 0}, 0, 0) == Words{0x5f6fb709, 0x0d893f64, 0x4f121f81, 0x4f730a48});
  CHECK(philox<10>({0, 0, 0, 0}, 0, 0) == Words{0x6627e8d5, 0xe169c58d, 0xbc57ac4c, 0x9b00dbd8});
  const Words pi{0x243f6a88, 0x85a308d3, 0x13198a2e, 0x03707344};
  CHECK(philox<7>(pi, 0xa4093822, 0x299f31d0) == Words{0x4dfccaba, 0x190a87f0, 0xc47362ba, 0xb6b5242a});
  CHECK(philox<10>(pi, 0xa4093822, 0x299f31d0) == Words{0xd16cfe09, 0x94fdcceb, 0x5001e420, 0x24126ea1});
}

TEST_CASE("dropout: the share kept is 1 - p, and the mean stays") {
  for (const float p : {0.1f, 0.3f}) CHECK(std::abs(share_kept(p) - (1 - p)) <= 4 * std::sqrt(p * (1 - p) / 1e6));
  const double mean = dropped(Tensor::full({1, 8}, 1), {0.25f, 1, random_state()})[0];
  CHECK((mean == 0 || mean == double(65536.0f / 49152.0f)));
}

TEST_CASE("dropout: packed and padded layouts draw the same bits") {
  constexpr int64_t kColumns = 37, kLength = 5;
  const std::vector<int64_t> lengths{3, 0, 5, 1};
  const DropoutSpec spec{0.5f, 4, random_state()};
  const Values packed = dropped(Tensor::full({9, kColumns}, 1), spec, make_packing(lengths));
  // Padded: row (s, i) of [4, 5], its place given as if it were packed with full lengths.
  const std::vector<int64_t> full(4, kLength);
  const Values padded = dropped(Tensor::full({4 * kLength, kColumns}, 1), spec, make_packing(full));
  size_t row = 0;
  for (size_t s = 0; s < lengths.size(); ++s)
    for (int64_t i = 0; i < lengths[s]; ++i, ++row)
      for (size_t c = 0; c < size_t(kColumns); ++c)
        REQUIRE(packed[row * kColumns + c] == padded[(s * kLength + size_t(i)) * kColumns + c]);
  CHECK(packed != dropped(Tensor::full({9, kColumns}, 1), spec));
}

TEST_CASE("dropout: streams, steps, seeds, sequences and rows draw differently") {
  const Tensor x = Tensor::full({2, 64}, 1);
  const Values base = dropped(x, {0.5f, 0, random_state()});
  CHECK(base == dropped(x, {0.5f, 0, random_state()}));
  CHECK(base != dropped(x, {0.5f, 1, random_state()}));
  CHECK(base != dropped(x, {0.5f, 0, random_state(1, 3)}));
  CHECK(base != dropped(x, {0.5f, 0, random_state(2, 2)}));
  CHECK(!std::equal(base.begin(), base.begin() + 64, base.begin() + 64));
  const Values sequences = dropped(x, {0.5f, 0, random_state()}, make_packing(std::vector<int64_t>{1, 1}));
  CHECK(std::equal(base.begin(), base.begin() + 64, sequences.begin()));
  CHECK(!std::equal(base.begin() + 64, base.end(), sequences.begin() + 64));
}

TEST_CASE("dropout: every instruction set's bits are those of the definition, for any width") {
  for (const int64_t columns : {1, 7, 8, 127, 128, 129, 300}) {
    const Values y = dropped(Tensor::full({3, columns}, 1), {0.5f, 6, random_state(7, 8)});
    for (int64_t i = 0; i < 3 * columns; ++i) {
      const auto row = uint32_t(i / columns), column = uint32_t(i % columns);
      const auto bits = dropout_bits(random_key({7, 8}), {row, 0, 6}, column / 8)[column % 8];
      REQUIRE(y[size_t(i)] == (bits >= 32768 ? 2 : 0));
    }
  }
}

TEST_CASE("dropout: inactive without a tape or with p 0, and then x itself comes back") {
  const Tensor x = Tensor::full({2, 3}, 1), residual = Tensor::full({2, 3}, 5);
  const Packing packing = make_packing(std::vector<int64_t>{2});
  CHECK(dropout(x, {0.5f, 0, random_state()}).node_handle() == x.node_handle());
  CHECK(values_of(dropout_add(residual, x, packing, {0.5f, 0, random_state()})) == Values(6, 6));
  const Tape tape;
  CHECK(dropout(x, {}).node_handle() == x.node_handle());
  CHECK(dropout(x, {0.5f, 0, random_state()}).node_handle() != x.node_handle());
  const NoTape none;
  CHECK(dropout(x, {0.5f, 0, random_state()}).node_handle() == x.node_handle());
}

TEST_CASE("dropout: a p that rounds to 1 drops everything without dividing by zero") {
  CHECK(dropped(Tensor::full({4, 9}, 1), {0.9999999f, 0, random_state()}) == Values(36, 0));
}

TEST_CASE("dropout: backward takes the state as it stands in memory, and the same result from any number of threads") {
  const Tensor x = Tensor::full({200, 130}, 1);
  x.set_requires_grad();
  const auto gradient = [&] {
    Tape tape;
    const Tensor y = dropout(x, {0.3f, 2, random_state()});
    tape.backward(y, Tensor::full(y.shape(), 1));
    Values both = values_of(y), dx = values_of(x.grad());
    x.clear_grad();
    CHECK(both == dx);  // the same mask in both directions, on ones
    return dx;
  };
  same_with_any_threads(gradient);
}

TEST_CASE("dropout_add: one tensor as both arguments gets both gradients") {
  const Tensor x = Tensor::full({1, 16}, 1, DType::f64);
  x.set_requires_grad();
  Tape tape;
  const Tensor y = dropout_add(x, x, make_packing(std::vector<int64_t>{1}), {0.5f, 0, random_state()});
  tape.backward(y, Tensor::full(y.shape(), 1, DType::f64));
  CHECK(values_of(x.grad()) == values_of(y));
}

TEST_CASE("dropout: arguments are checked") {
  const Tape tape;
  const Tensor x = Tensor::zeros({2, 3});
  const Packing three = make_packing(std::vector<int64_t>{3});
  CHECK_THROWS_WITH(dropout(x, {1.0f, 0, random_state()}),
                    "[dropout] p must be in [0, 1), got 1; 0 turns it off, 0.1 is usual");
  CHECK_THROWS_WITH(dropout(x, {-0.5f, 0, random_state()}),
                    "[dropout] p must be in [0, 1), got -0.5; 0 turns it off, 0.1 is usual");
  CHECK_THROWS_AS(dropout(x, {NAN, 0, random_state()}), InvalidArgument);
  CHECK_THROWS_WITH(dropout(x, {0.5f, 0, {}}),
                    "[dropout] random_state must be i64[2], got undefined; assign a tensor to it first");
  CHECK_THROWS_WITH(
      dropout(x, three, {0.5f, 0, random_state()}),
      "[dropout] packing.positions must be i32[2], got i32[3]; its sizes must agree with those of the other arguments");
  const Packing two = make_packing(std::vector<int64_t>{2});
  CHECK_THROWS_WITH(dropout(x, Packing{{}, two.positions, three.sequences}, {0.5f, 0, random_state()}),
                    "[dropout] packing.sequences must be i32[2], got i32[3]; its sizes must agree with those of the "
                    "other arguments");
  CHECK_THROWS_WITH(dropout(x, Packing{{}, {}, two.sequences}, {0.5f, 0, random_state()}),
                    "[dropout] packing must have positions and sequences, or neither, got undefined and i32[2]; "
                    "make_packing() makes both");
  CHECK_THROWS_WITH(dropout(x, Packing{{}, two.positions, {}}, {0.5f, 0, random_state()}),
                    "[dropout] packing must have positions and sequences, or neither, got i32[2] and undefined; "
                    "make_packing() makes both");
  CHECK_THROWS_WITH(dropout(x.reshape({1, 2, 3}), three, {0.5f, 0, random_state()}),
                    "[dropout] packed x must be [tokens, columns], got f32[1, 2, 3]; reshape() it, or pass no packing");
  CHECK_THROWS_WITH(dropout(Tensor::full({}, 1), {0.5f, 0, random_state()}),
                    "[dropout] x must be [..., columns], got f32[]; reshape() it");
  CHECK_THROWS_WITH(dropout(Tensor::zeros({2, 3}, DType::i32), {0.5f, 0, random_state()}),
                    "[dropout] expected a float dtype (f32, bf16, f64), got i32; cast() converts");
  CHECK_THROWS_WITH(dropout_add(x, x, three, {2.0f, 0, random_state()}),
                    "[dropout_add] p must be in [0, 1), got 2; 0 turns it off, 0.1 is usual");
  CHECK_THROWS_WITH(dropout_add(Tensor::zeros({3, 2}), x, three, {}),
                    "[dropout_add] residual must be f32[2, 3], got f32[3, 2]; reshape() it");
}

}  // namespace libtrain::testing
