/// matmul and linear: what the table cannot say.
#include "any_threads.h"
#include "catch.h"
#include "epilogue_checks.h"
#include "normal_tensor.h"
#include "references.h"

namespace libtrain::testing {
namespace {

using Catch::Matchers::Contains;

/// Of a batch [count, m, n].
Tensor matrix_of(const Tensor& t, int64_t index) { return t.rows(index, index + 1).reshape(Shape{t.dim(1), t.dim(2)}); }

}  // namespace

TEST_CASE("matmul: inner sizes that differ name the transposition that helps") {
  const auto of = [](int64_t rows, int64_t columns) { return Tensor::zeros({rows, columns}); };
  CHECK_THROWS_WITH(matmul(of(64, 512), of(256, 512)),
                    "[matmul] inner sizes differ: [64, 512] × [256, 512]; did you mean "
                    "matmul(a, b, {.transpose_b = true})?");
  CHECK_THROWS_WITH(matmul(of(512, 64), of(512, 256)), Contains("did you mean matmul(a, b, {.transpose_a = true})?"));
  CHECK_THROWS_WITH(matmul(of(512, 64), of(256, 512)),
                    Contains("did you mean matmul(a, b, {.transpose_a = true, .transpose_b = true})?"));
  CHECK_THROWS_WITH(matmul(of(64, 512), of(512, 256), {.transpose_b = true}),
                    "[matmul] inner sizes differ: [64, 512] × [512, 256] transposed; did you mean matmul(a, b)?");
  CHECK_THROWS_WITH(matmul(of(2, 3), of(5, 7)),
                    "[matmul] inner sizes differ: [2, 3] × [5, 7]; the last of a must be the last but one of b");
}

TEST_CASE("matmul: ranks and dtypes are checked") {
  const Tensor a = Tensor::zeros({2, 3}), f64 = Tensor::zeros({3, 2}, DType::f64),
               ids = Tensor::zeros({2, 2}, DType::i32);
  CHECK_THROWS_WITH(
      matmul(Tensor::zeros({4}), a),
      "[matmul] expected matrices or batches of them, got f32[4] × f32[2, 3]; reshape() a vector to [n, 1] or [1, n]");
  CHECK_THROWS_WITH(matmul(a, Tensor()),
                    "[matmul] expected matrices or batches of them, got f32[2, 3] × undefined; reshape() a vector to "
                    "[n, 1] or [1, n]");
  CHECK_THROWS_WITH(matmul(a, f64), "[matmul] b must be f32[3, 2], got f64[3, 2]; cast() converts");
  CHECK_THROWS_WITH(matmul(ids, ids), Contains("[matmul] expected a float dtype"));
  CHECK_THROWS_AS(matmul(a, f64), InvalidArgument);
}

TEST_CASE("matmul: batches that do not go together are refused, naming the transposition that helps") {
  const auto of = [](const Shape& shape) { return Tensor::zeros(shape); };
  CHECK_THROWS_WITH(matmul(of({8, 64, 512}), of({8, 256, 512})),
                    "[matmul] inner sizes differ: [8, 64, 512] × [8, 256, 512]; did you mean "
                    "matmul(a, b, {.transpose_b = true})?");
  CHECK_THROWS_WITH(matmul(of({8, 2, 64, 512}), of({256, 512})),
                    "[matmul] inner sizes differ: [8, 2, 64, 512] × [256, 512]; did you mean "
                    "matmul(a, b, {.transpose_b = true})?");
  CHECK_THROWS_WITH(
      matmul(of({2, 3, 4}), of({3, 4, 5})),
      "[matmul] leading dimensions differ: [2, 3, 4] × [3, 4, 5]; expected the same ones, or one matrix b "
      "for all of a's");
  CHECK_THROWS_WITH(matmul(of({3, 4}), of({2, 4, 5})), Contains("leading dimensions differ"));
  CHECK_THROWS_WITH(matmul(of({1, 3, 4}), of({2, 4, 5})), Contains("leading dimensions differ"));
}

TEST_CASE("matmul: on the CPU, each product of a batch has the bits that it has alone") {
  for (const DType dtype : {DType::f32, DType::bf16})
    for (const auto& [m, n, k] : {std::tuple<int64_t, int64_t, int64_t>{5, 7, 3}, {70, 130, 300}, {70, 130, 1300}})
      for (const bool across : {false, true}) {
        const MatmulOptions options{.transpose_a = across};
        const Tensor a = normal_tensor(across ? Shape{4, k, m} : Shape{4, m, k}, dtype),
                     b = normal_tensor({4, k, n}, dtype, 5);
        const Tensor c = matmul(a, b, options);
        for (int64_t i = 0; i < 4; ++i)
          CHECK(values_of(matrix_of(c, i)) == values_of(matmul(matrix_of(a, i), matrix_of(b, i), options)));
      }
}

TEST_CASE("a long sum over rows of both operands, which may be cut, goes to c with bias and what is there") {
  const int64_t m = GENERATE(7, 70, 130), n = 100, k = GENERATE(515, 1250, 2100);
  const bool transpose_b = GENERATE(false, true), accumulate = GENERATE(false, true);
  CAPTURE(m, n, k, transpose_b, accumulate);
  const Tensor a = normal_tensor({2, k, m}, DType::f64), bias = normal_tensor({n}, DType::f64, 9),
               b = normal_tensor(transpose_b ? Shape{2, n, k} : Shape{2, k, n}, DType::f64, 5),
               c = Tensor::full({2, m, n}, 10, DType::f64);
  detail::run_gemm(Device::kCpu, kernels::Gemm<double, double>{.a = matrix_of(a, 0).view<const double>(),
                                                               .b = matrix_of(b, 0).view<const double>(),
                                                               .transpose_a = true,
                                                               .transpose_b = transpose_b,
                                                               .bias = bias.view<const double>(),
                                                               .c = {c.view<double>().data, accumulate},
                                                               .batch = {2, k * m, k * n, m * n}});
  const Values added = values_of(bias);
  for (int64_t i = 0; i < 2; ++i) {
    const Values product = matmul_reference({values_of(matrix_of(a, i)), values_of(matrix_of(b, i))}, m, n, k, true,
                                            transpose_b),
                 actual = values_of(matrix_of(c, i));
    double worst = 0;
    for (size_t x = 0; x < product.size(); ++x)
      worst = std::max(worst, std::abs(actual[x] - (product[x] + added[x % size_t(n)] + (accumulate ? 10 : 0))));
    CHECK(worst <= 1e-11);
  }
}

TEST_CASE("matmul: a tensor times itself gets both gradients") {
  const Tensor a = normal_tensor({5, 5}, DType::f64);
  a.set_requires_grad();
  Tape tape;
  const Tensor c = matmul(a, a);
  const Tensor dc = normal_tensor({5, 5}, DType::f64, 4);
  tape.backward(c, dc);
  const Values left = values_of(matmul(dc, a, {.transpose_b = true})),
               right = values_of(matmul(a, dc, {.transpose_a = true}));
  const Values both = values_of(a.grad());
  for (size_t i = 0; i < both.size(); ++i) CHECK(std::abs(both[i] - left[i] - right[i]) <= 1e-13);
}

TEST_CASE("linear: shapes and dtypes are checked") {
  const Tensor x = Tensor::zeros({2, 3}), weight = Tensor::zeros({4, 3}), bias = Tensor::zeros({4});
  CHECK_THROWS_WITH(linear(Tensor(), weight), "[linear] x must be [..., in], got undefined; reshape() it");
  CHECK_THROWS_WITH(linear(Tensor::zeros({}), weight), "[linear] x must be [..., in], got f32[]; reshape() it");
  CHECK_THROWS_WITH(
      linear(x, Tensor::zeros({3, 4})),
      "[linear] weight must be [out, 3] for x f32[2, 3], got f32[3, 4]; its second size is the last of x");
  CHECK_THROWS_WITH(linear(x, bias),
                    "[linear] weight must be [out, 3] for x f32[2, 3], got f32[4]; its second size is the last of x");
  CHECK_THROWS_WITH(linear(x, weight.cast(DType::f64)),
                    "[linear] x must have the dtype of weight, got f32[2, 3] and f64[4, 3]; cast() converts");
  CHECK_THROWS_WITH(linear(Tensor::zeros({2, 3}, DType::i32), weight),
                    "[linear] x must have the dtype of weight, got i32[2, 3] and f32[4, 3]; cast() converts");
  CHECK_THROWS_WITH(linear(x, weight, Tensor::zeros({3})),
                    "[linear] bias must be f32[4], got f32[3]; its sizes must agree with those of the other arguments");
  CHECK_THROWS_WITH(linear(x.cast(DType::i32), weight.cast(DType::i32)), Contains("[linear] expected a float dtype"));
}

TEST_CASE("linear: any leading dimensions, of any rank") {
  const Tensor x = normal_tensor({2, 3, 2, 1, 2, 5}, DType::f64), weight = normal_tensor({4, 5}, DType::f64),
               bias = normal_tensor({4}, DType::f64);
  const Tensor y = linear(x, weight, bias);
  CHECK(y.shape() == Shape{2, 3, 2, 1, 2, 4});
  CHECK(values_of(y) == values_of(linear(x.reshape({24, 5}), weight, bias)));
  CHECK(linear(x.reshape({120}).rows(0, 5), weight).shape() == Shape{4});
}

TEST_CASE("linear: the gradients of bf16 parameters are f32, that of x is bf16") {
  const Tensor x = normal_tensor({9, 5}, DType::bf16), weight = normal_tensor({4, 5}, DType::bf16),
               bias = normal_tensor({4}, DType::bf16);
  for (const Tensor& leaf : {x, weight, bias}) leaf.set_requires_grad();
  Tape tape;
  const Tensor y = linear(x, weight, bias);
  tape.backward(y, Tensor::full(y.shape(), 1, DType::bf16));
  CHECK(x.grad().dtype() == DType::bf16);
  CHECK(weight.grad().dtype() == DType::f32);
  CHECK(bias.grad().dtype() == DType::f32);
  CHECK(values_of(bias.grad()) == Values(4, 9));
}

TEST_CASE("linear: only the gradients that are wanted are formed") {
  const Tensor x = normal_tensor({9, 5}, DType::f64), weight = normal_tensor({4, 5}, DType::f64),
               bias = normal_tensor({4}, DType::f64);
  bias.set_requires_grad();
  Tape tape;
  const Tensor y = linear(x, weight, bias);
  tape.backward(y, Tensor::full(y.shape(), 1, DType::f64));
  CHECK(values_of(bias.grad()) == Values(4, 9));
  CHECK_FALSE(x.has_grad());
  CHECK_FALSE(weight.has_grad());
}

TEST_CASE("products are the same bits for any number of threads") {
  for (const auto dtype : {DType::f32, DType::bf16, DType::f64})
    for (const auto& [m, n, k] : {std::tuple<int64_t, int64_t, int64_t>{1000, 128, 65},
                                  {2100, 65, 70},
                                  {43, 128, 600},
                                  {515, 200, 33},
                                  {2, 700, 300}}) {
      const Tensor x = normal_tensor({m, k}, dtype), weight = normal_tensor({n, k}, dtype, 5),
                   bias = normal_tensor({n}, dtype, 6);
      const Tensor dy = normal_tensor({m, n}, dtype, 7);
      same_with_any_threads([&] {
        for (const Tensor& leaf : {x, weight, bias}) leaf.set_requires_grad().clear_grad();
        Tape tape;
        const Tensor y = linear(x, weight, bias);
        tape.backward(y, dy);
        return Inputs{values_of(y), values_of(x.grad()), values_of(weight.grad()), values_of(bias.grad())};
      });
    }
}

TEST_CASE("a batch of products: gaps stay as they are, an operand may serve them all, its result is added to") {
  const Tensor a = normal_tensor({100}, DType::bf16), b = normal_tensor({100}, DType::bf16, 8),
               bias = normal_tensor({3}, DType::bf16, 9);
  for (const auto& strides : {kernels::GemmBatch{3, 25, 0, 20}, {3, 0, 15, 13}, {3, 20, 15, 12}}) {
    INFO(strides.a << " " << strides.b << " " << strides.c);
    const Tensor c = Tensor::full({60}, 10, DType::bf16);
    const auto part = [](const Tensor& t, int64_t first, const std::array<int64_t, 4>& dims) {
      return View<const bf16>{t.view<const bf16>().data + first, dims};
    };
    kernels::Gemm<bf16, bf16> product{.a = part(a, 0, {4, 5, 1, 1}),
                                      .b = part(b, 0, {5, 3, 1, 1}),
                                      .bias = bias.view<const bf16>(),
                                      .c = {c.view<bf16>().data, true},
                                      .batch = strides};
    detail::run_gemm(Device::kCpu, product);
    const Tensor expected = Tensor::full({60}, 10, DType::bf16);
    for (int64_t i = 0; i < 3; ++i) {
      product.batch = {};
      product.a = part(a, i * strides.a, {4, 5, 1, 1});
      product.b = part(b, i * strides.b, {5, 3, 1, 1});
      product.c.data = expected.view<bf16>().data + i * strides.c;
      detail::run_gemm(Device::kCpu, product);
    }
    CHECK(values_of(c) == values_of(expected));
    CHECK(values_of(c)[59] == 10);
  }
}

TEST_CASE("bias and activation in the product give what a kernel of their own gives") {
  check_activation_in_product(Device::kCpu);
  check_activations_of_batch(Device::kCpu);
}

TEST_CASE("a column sum adds to what is there when asked to") {
  const Tensor x = normal_tensor({1500, 3}, DType::f64), sum = Tensor::full({3}, 2, DType::f64);
  detail::run_column_sum(Device::kCpu, x.view<const double>(), Sink<double>{sum.view<double>().data, true});
  const Values values = values_of(x), actual = values_of(sum);
  for (size_t c = 0; c < 3; ++c) {
    double expected = 2;
    for (size_t row = 0; row < 1500; ++row) expected += values[row * 3 + c];
    CHECK(std::abs(actual[c] - expected) <= 1e-11);
  }
}

TEST_CASE("a product beyond what BLAS can count is refused") {
  const Tensor tall = Tensor::zeros({int64_t(1) << 31, 0}), empty = Tensor::zeros({0, 0});
  CHECK_THROWS_WITH(matmul(tall, empty),
                    "[gemm] expected sizes below 2^31, got m 2147483648, n 0, k 0; split the product");
}

TEST_CASE("a product with bias adds to what is there when asked to") {
  for (const int64_t k : {0, 5}) {
    const Tensor a = normal_tensor({4, k}, DType::f64), b = normal_tensor({k, 3}, DType::f64, 8),
                 bias = normal_tensor({3}, DType::f64, 9);
    const Tensor c = Tensor::full({4, 3}, 10, DType::f64);
    const Values product = values_of(matmul(a, b)), added = values_of(bias);
    detail::run_gemm(Device::kCpu, kernels::Gemm<double, double>{.a = a.view<const double>(),
                                                                 .b = b.view<const double>(),
                                                                 .bias = bias.view<const double>(),
                                                                 .c = {c.view<double>().data, true}});
    const Values actual = values_of(c);
    for (size_t i = 0; i < actual.size(); ++i) CHECK(std::abs(actual[i] - (10 + product[i] + added[i % 3])) <= 1e-13);
  }
}

}  // namespace libtrain::testing
