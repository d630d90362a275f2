// The stand-in for cuBLASLt: every form of the contract against sums in double.
#include <cmath>

#include "kernels/cuda/gemm_ends.h"
#include "tests/cuda/device_array.h"

using namespace libtrain;
using namespace libtrain::kernels;

namespace {

struct Form {
  int64_t m, n, k;
  bool transpose_a, transpose_b, bias, accumulate;
};

template <class T> std::vector<T> values(int64_t count, int step) {
  std::vector<T> all;
  for (int64_t i = 0; i < count; ++i) all.push_back(T(float((i * step + 3) % 17) / 8 - 1));
  return all;
}

/// Elements are multiples of 1/8 below 2, so sums over k <= 64 are exact in f32: only the rounding to Out is left.
template <class In, class Out> void check_form(const Form& f) {
  CAPTURE(f.m, f.n, f.k, f.transpose_a, f.transpose_b, f.bias, f.accumulate);
  const auto a = values<In>(f.m * f.k, 5), b = values<In>(f.k * f.n, 7), bias = values<In>(f.n, 11);
  const auto c = values<Out>(f.m * f.n, 13);
  const DeviceArray<In> da(a), db(b), dbias(bias);
  const DeviceArray<Out> dc(c);
  Gemm<In, Out> g;
  g.a = {da.data(), {f.transpose_a ? f.k : f.m, f.transpose_a ? f.m : f.k, 1, 1}};
  g.b = {db.data(), {f.transpose_b ? f.n : f.k, f.transpose_b ? f.k : f.n, 1, 1}};
  g.transpose_a = f.transpose_a;
  g.transpose_b = f.transpose_b;
  if (f.bias) g.bias = {dbias.data(), {f.n, 1, 1, 1}};
  g.c = {dc.data(), f.accumulate};
  gemm(Cuda{}, g);
  const auto got = dc.values();
  for (int64_t row = 0; row < f.m; ++row)
    for (int64_t column = 0; column < f.n; ++column) {
      double sum = f.bias ? double(bias[column]) : 0;
      for (int64_t i = 0; i < f.k; ++i)
        sum += double(a[f.transpose_a ? i * f.m + row : row * f.k + i]) *
               double(b[f.transpose_b ? column * f.k + i : i * f.n + column]);
      if (f.accumulate) sum += double(c[row * f.n + column]);
      REQUIRE(double(got[row * f.n + column]) == double(Out(float(sum))));
    }
}

const std::vector<Form> kForms{{5, 7, 3, false, false, false, false},
                               {65, 70, 64, true, false, true, false},
                               {130, 3, 17, false, true, true, true},
                               {4, 4, 0, false, false, true, false},
                               {33, 129, 20, true, true, false, true}};

}  // namespace

TEST_CASE("executor: gemm of f32, f64 and bf16", "[executor][gemm]") {
  for (const Form& form : kForms) {
    check_form<float, float>(form);
    check_form<bf16, float>(form);
    check_form<bf16, bf16>(form);
    check_form<double, double>(form);
  }
}

TEST_CASE("executor: gemm of a batch, with gaps and with an operand for all", "[executor][gemm]") {
  const auto numbers = values<float>(60, 5);
  const DeviceArray<float> a(numbers), b(numbers), c(std::vector<float>(30, 9));
  Gemm<float, float> g;
  g.a = {a.data(), {2, 3, 1, 1}};
  g.b = {b.data(), {3, 4, 1, 1}};
  g.c = {c.data()};
  g.batch = {3, 7, 0, 10};
  gemm(Cuda{}, g);
  const auto got = c.values();
  for (size_t i = 0; i < 30; ++i) {
    const size_t matrix = i / 10, row = i % 10 / 4, column = i % 10 % 4;
    float expected = 0;
    for (size_t k = 0; k < 3; ++k) expected += numbers[matrix * 7 + row * 3 + k] * numbers[k * 4 + column];
    CHECK(got[i] == (i % 10 < 8 ? expected : 9));
  }
  g.batch.a = 28;  // the third matrix of a would reach beyond it
  CHECK_THROWS_AS(gemm(Cuda{}, g), Failure);
}

TEST_CASE("executor: what cuBLASLt leaves of a batch gives each product its own bias, and leaves gaps alone",
          "[executor][gemm]") {
  const DeviceArray<float> bias(std::vector<float>{1, -2, 0, 3, -4, 5});
  Gemm<float, float> g;
  g.a = {nullptr, {2, 0, 1, 1}};
  g.b = {nullptr, {0, 2, 1, 1}};
  g.bias = {bias.data(), {2, 1, 1, 1}};
  g.activation = GemmActivation::kRelu;
  using Numbers = std::vector<float>;
  const auto results = [&](int64_t bias_stride, bool accumulate) {
    const DeviceArray<float> c(Numbers(15, 9));
    g.c = {c.data(), accumulate};
    g.batch = {.count = 3, .c = 5, .bias = bias_stride};
    start_products(Cuda{}, g);
    const Numbers started = c.values();
    activate_products(Cuda{}, g);
    return std::pair(started, c.values());
  };
  CHECK(results(2, false) == std::pair(Numbers{1, -2, 1, -2, 9, 0, 3, 0, 3, 9, -4, 5, -4, 5, 9},
                                       Numbers{1, 0, 1, 0, 9, 0, 3, 0, 3, 9, 0, 5, 0, 5, 9}));
  CHECK(results(0, true).first == Numbers{10, 7, 10, 7, 9, 10, 7, 10, 7, 9, 10, 7, 10, 7, 9});
  g.bias = {};
  g.activation = GemmActivation::kNone;
  const Numbers zeros{0, 0, 0, 0, 9, 0, 0, 0, 0, 9, 0, 0, 0, 0, 9};
  CHECK(results(0, false) == std::pair(zeros, zeros));
}

TEST_CASE("executor: gemm waits for its turn in the stream, and takes memory of the device only", "[executor][gemm]") {
  const DeviceArray<float> a(std::vector<float>(16, 1)), c(16);
  std::vector<float> host(16, 1);
  Gemm<float, float> g;
  g.a = {a.data(), {4, 4, 1, 1}};
  g.b = {a.data(), {4, 4, 1, 1}};
  g.c = {c.data()};
  gemm(Cuda{}, g);
  CHECK(std::isnan(c.data()[0]));  // the arena is host memory
  CHECK(c.values()[0] == 4);
  g.b.data = host.data();
  CHECK_THROWS_AS(gemm(Cuda{}, g), Failure);
  g.b = {a.data() + 1, {4, 4, 1, 1}};
  CHECK_THROWS_AS(gemm(Cuda{}, g), Failure);
}
