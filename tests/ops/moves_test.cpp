/// permute, narrow, concat, index_select, sum and mean: what the table cannot say.
#include "catch.h"
#include "op_cases.h"

namespace libtrain::testing {
namespace {

Tensor ids_of(std::initializer_list<int32_t> values) { return Tensor::from(values, {int64_t(values.size())}); }

}  // namespace

TEST_CASE("permute and transpose: dimensions count from either end, and the same one may be exchanged with itself") {
  const Tensor x = Tensor::from<double>({0, 1, 2, 3, 4, 5}, {2, 3});
  CHECK(values_of(permute(x, {-1, 0})) == Values{0, 3, 1, 4, 2, 5});
  CHECK(values_of(transpose(x, 0, -1)) == Values{0, 3, 1, 4, 2, 5});
  CHECK(values_of(transpose(x, 1, 1)) == values_of(x));
  CHECK(permute(Tensor::zeros({2, 3, 4, 5}), {3, 1, 0, 2}).shape() == Shape{5, 3, 2, 4});
}

TEST_CASE("narrow: along the first dimension it shares the elements of x") {
  const Tensor x = Tensor::zeros({4, 2});
  CHECK(narrow(x, 0, 1, 2).view<float>().data == x.view<float>().data + 2);
  CHECK(narrow(x, -1, 1, 1).shape() == Shape{4, 1});
  CHECK(narrow(Tensor::zeros({1, 2, 3, 4, 5, 6}), 3, 1, 2).shape() == Shape{1, 2, 3, 2, 5, 6});
}

TEST_CASE("narrow: several windows of one tensor add up") {
  const Tensor x = Tensor::zeros({2, 3}, DType::f64);
  x.set_requires_grad();
  Tape tape;
  const Tensor y = concat({narrow(x, 1, 0, 2), narrow(x, 1, 1, 2), narrow(x, 1, 1, 1)}, 1);
  tape.backward(y, Tensor::from<double>({1, 2, 3, 4, 5, 10, 20, 30, 40, 50}, {2, 5}));
  CHECK(values_of(x.grad()) == Values{1, 2 + 3 + 5, 4, 10, 20 + 30 + 50, 40});
}

TEST_CASE("concat: one tensor, and a tensor that needs no gradient") {
  const Tensor a = Tensor::from<double>({1, 2}, {2}), b = Tensor::from<double>({3}, {1});
  b.set_requires_grad();
  CHECK(values_of(concat({a}, 0)) == Values{1, 2});
  Tape tape;
  const Tensor y = concat({a, b}, -1);
  tape.backward(y, Tensor::from<double>({5, 6, 7}, {3}));
  CHECK_FALSE(a.has_grad());
  CHECK(values_of(b.grad()) == Values{7});
}

TEST_CASE("index_select: the gradient of a bf16 activation is bf16") {
  const Tensor leaf = Tensor::full({2, 2}, 1, DType::bf16);
  leaf.set_requires_grad();
  Tape tape;
  const Tensor y = index_select(leaf, ids_of({1, 1, 0}));
  tape.backward(y, Tensor::full({3, 2}, 1, DType::bf16));
  CHECK(leaf.grad().dtype() == DType::bf16);
  CHECK(values_of(leaf.grad()) == Values{1, 1, 2, 2});
}

TEST_CASE("sum and mean: bf16 is added up in f32, and kept so") {
  const Tensor x = Tensor::full({3, 1000}, 1, DType::bf16);
  CHECK(sum(x).spec() == "f32[]");
  CHECK(sum(x).item() == 3000);
  CHECK(values_of(sum(x, -1)) == Values{1000, 1000, 1000});
  CHECK(mean(x, 1).spec() == "f32[3]");
  CHECK(mean(x).item() == 1);
}

TEST_CASE("sum and mean: of nothing") {
  CHECK(sum(Tensor::zeros({0, 3})).item() == 0);
  CHECK(std::isnan(mean(Tensor::zeros({0})).item()));
  CHECK(values_of(sum(Tensor::zeros({2, 0}), -1)) == Values{0, 0});
  CHECK(values_of(sum(Tensor::zeros({0, 2}), 0)) == Values{0, 0});
  for (const double value : values_of(mean(Tensor::zeros({0, 2}), 0))) CHECK(std::isnan(value));
}

TEST_CASE("permute, narrow, concat, index_select, sum: arguments are checked") {
  const Tensor x = Tensor::zeros({2, 3});
  CHECK_THROWS_WITH(permute(x, {0, 0}),
                    "[permute] expected each of the 2 dimensions of f32[2, 3] once in the order of 2; {1, 0} exchanges "
                    "the two of a matrix");
  CHECK_THROWS_WITH(permute(x, {0}),
                    "[permute] expected each of the 2 dimensions of f32[2, 3] once in the order of 1; {1, 0} exchanges "
                    "the two of a matrix");
  CHECK_THROWS_WITH(permute(x, {0, 2}),
                    "[permute] dimension 2 of a tensor that has 2; they count from 0, or back from -1");
  CHECK_THROWS_WITH(
      permute(Tensor::zeros({1, 1, 1, 1, 1}), {0, 1, 2, 3, 4}),
      "[permute] expected at most 4 dimensions, got f32[1, 1, 1, 1, 1]; reshape() merges those that stay together");
  CHECK_THROWS_WITH(transpose(x, 0, -3),
                    "[transpose] dimension -3 of a tensor that has 2; they count from 0, or back from -1");
  CHECK_THROWS_WITH(
      transpose(Tensor::zeros({1, 1, 1, 1, 1}), 0, 1),
      "[transpose] expected at most 4 dimensions, got f32[1, 1, 1, 1, 1]; reshape() merges those that stay together");
  const Tensor integers = Tensor::zeros({2, 3, 4}, DType::i32), matrix = Tensor::zeros({3, 5}, DType::i32);
  CHECK_THROWS_WITH(transpose(integers, 0, 1),
                    "[transpose] expected a float dtype (f32, bf16, f64), got i32; cast() converts");
  CHECK_THROWS_WITH(softmax(integers, 1),
                    "[softmax] expected a float dtype (f32, bf16, f64), got i32; cast() converts");
  CHECK_THROWS_WITH(log_softmax(integers, 1),
                    "[log_softmax] expected a float dtype (f32, bf16, f64), got i32; cast() converts");
  CHECK_THROWS_WITH(matmul(integers, matrix, {.transpose_a = true}),
                    "[matmul] expected a float dtype (f32, bf16, f64), got i32; cast() converts");
  CHECK_THROWS_WITH(narrow(x, 1, 2, 2),
                    "[narrow] expected elements within dimension 1 of f32[2, 3], got 2 from 2 on; start counts from 0");
  CHECK_THROWS_AS(narrow(x, 1, -1, 1), InvalidArgument);
  CHECK_THROWS_AS(narrow(x, 1, 0, -1), InvalidArgument);
  CHECK_THROWS_AS(narrow({}, 1, 0, 1), InvalidArgument);
  CHECK_THROWS_WITH(concat({}, 0), "[concat] expected at least one tensor, got 0; pass those to be joined");
  CHECK_THROWS_WITH(
      concat({x, Tensor::zeros({2, 4})}, 0),
      "[concat] tensor 1 must be f32[2, 3], got f32[2, 4]; its sizes must agree with those of the other arguments");
  CHECK_THROWS_WITH(
      concat({x, Tensor::zeros({2})}, 1),
      "[concat] tensor 1 must be f32[2, 3], got f32[2]; its sizes must agree with those of the other arguments");
  CHECK_THROWS_WITH(index_select(x, ids_of({0, 2})),
                    "[index_select] index 2 at position 1 is outside [0, 2), the rows of x; they count from 0");
  CHECK_THROWS_WITH(index_select(x, ids_of({-1})),
                    "[index_select] index -1 at position 0 is outside [0, 2), the rows of x; they count from 0");
  CHECK_THROWS_WITH(index_select(x, {}),
                    "[index_select] index must be i32[picks], got undefined; cast() and reshape() convert");
  CHECK_THROWS_WITH(index_select(Tensor::full({}, 1), ids_of({0})),
                    "[index_select] x must be [rows, ...], got f32[]; reshape() it");
  CHECK_THROWS_WITH(sum(x, 2),
                    "[sum] expected one of the 2 dimensions of f32[2, 3], got 2; they count from 0, or back from -1");
  CHECK_THROWS_WITH(mean(x, -3),
                    "[mean] expected one of the 2 dimensions of f32[2, 3], got -3; they count from 0, or back from -1");
  CHECK_THROWS_WITH(sum(Tensor::full({}, 1), 0),
                    "[sum] expected one of the 0 dimensions of f32[], got 0; they count from 0, or back from -1");
  CHECK_THROWS_WITH(sum(Tensor(), 0), "[sum] expected a tensor, got undefined; assign one to it first");
  CHECK_THROWS_WITH(mean(Tensor()), "[mean] expected a tensor, got undefined; assign one to it first");
  CHECK_THROWS_WITH(sum(Tensor::zeros({2, 3}, DType::i32), 0),
                    "[sum] expected a float dtype (f32, bf16, f64), got i32; cast() converts");
  CHECK_THROWS_WITH(mean(Tensor::zeros({2}, DType::i32)),
                    "[mean] expected a float dtype (f32, bf16, f64), got i32; cast() converts");
}

}  // namespace libtrain::testing
