/// Matrix products of the g2p model's training step, by the library and by the BLAS that it links, taking turns: GFLOP/s of
/// CPU time on one thread, best of many, so that other programs on the machine matter little.
///
///   OMP_NUM_THREADS=1 product_bench
#include <omp.h>
#include <time.h>

#include <algorithm>
#include <cstdio>

#include "kernels/cpu/blas.h"
#include "libtrain/libtrain.h"
#include "libtrain/ops/gemm.h"

namespace {

using namespace libtrain;

/// c [m, n] = op(a) op(b), summed over k.
struct Case {
  const char* name;
  int64_t m, n, k;
  bool transpose_a, transpose_b;
};

constexpr Case kCases[] = {{"x W^T", 2048, 128, 128, false, true},   {"x W^T", 2048, 384, 128, false, true},
                           {"x W^T", 2048, 512, 128, false, true},   {"x W^T", 2048, 128, 512, false, true},
                           {"x W^T", 1277, 384, 128, false, true},   {"dy W", 2048, 128, 512, false, false},
                           {"dy W", 2048, 512, 128, false, false},   {"dy W", 2048, 128, 128, false, false},
                           {"dy^T x", 512, 128, 2048, true, false},  {"dy^T x", 128, 512, 2048, true, false},
                           {"dy^T x", 128, 128, 2048, true, false},  {"logits", 2048, 48, 128, false, true},
                           {"x W^T", 2048, 256, 1024, false, true},  {"x W^T", 2048, 256, 2048, false, true},
                           {"x W^T", 2080, 256, 256, false, true},   {"x W^T", 2080, 1024, 256, false, true},
                           {"x W^T", 2080, 8000, 256, false, true},  {"dy W", 2080, 256, 8000, false, false},
                           {"dy W", 2080, 256, 1024, false, false},  {"dy W", 2080, 1024, 256, false, false},
                           {"dy^T x", 8000, 256, 2080, true, false}, {"dy^T x", 1024, 256, 2080, true, false},
                           {"dy^T x", 256, 1024, 2080, true, false}, {"dy^T x", 256, 256, 2080, true, false},
                           {"x W^T", 4096, 10000, 128, false, true}, {"dy W", 4096, 128, 10000, false, false},
                           {"dy^T x", 10000, 128, 4096, true, false}};

Tensor random(const Shape& shape, uint64_t seed) {
  std::vector<double> values(size_t(shape.numel()));
  for (double& value : values) {
    seed = seed * 6364136223846793005u + 1442695040888963407u;
    value = double(seed >> 40) / double(1 << 24) - 0.5;
  }
  return Tensor::from(std::span<const double>(values), shape).cast(DType::f32);
}

double cpu_seconds() {
  timespec now;
  clock_gettime(CLOCK_THREAD_CPUTIME_ID, &now);
  return double(now.tv_sec) + 1e-9 * double(now.tv_nsec);
}

/// The same product by BLAS, which sees row-major matrices transposed.
void by_blas(const Case& c, const float* a, const float* b, float* to) {
  const int m = int(c.m), n = int(c.n), k = int(c.k), lda = c.transpose_a ? m : k, ldb = c.transpose_b ? k : n;
  const float one = 1, zero = 0;
  sgemm_(c.transpose_b ? "T" : "N", c.transpose_a ? "T" : "N", &n, &m, &k, &one, b, &ldb, a, &lda, &zero, to, &n);
}

void measure(const Case& c) {
  const Tensor a = random(c.transpose_a ? Shape{c.k, c.m} : Shape{c.m, c.k}, 1);
  const Tensor b = random(c.transpose_b ? Shape{c.n, c.k} : Shape{c.k, c.n}, 2);
  const Tensor to({c.m, c.n}, DType::f32, Device::kCpu);
  const kernels::Gemm<float, float> product{.a = a.view<const float>(),
                                            .b = b.view<const float>(),
                                            .transpose_a = c.transpose_a,
                                            .transpose_b = c.transpose_b,
                                            .c = {to.view<float>().data}};
  const double operations = 2.0 * double(c.m) * double(c.n) * double(c.k);
  double ours = 1e9, blas = 1e9;
  for (int64_t i = 0; i < std::max<int64_t>(5, int64_t(5e9 / operations)); ++i) {
    const double began = cpu_seconds();
    detail::run_gemm(Device::kCpu, product);
    const double between = cpu_seconds();
    by_blas(c, product.a.data, product.b.data, product.c.data);
    ours = std::min(ours, between - began);
    blas = std::min(blas, cpu_seconds() - between);
  }
  std::printf("%-7s %5ld x %4ld x %4ld   libtrain %6.1f   BLAS %6.1f GFLOP/s\n", c.name, long(c.m), long(c.n),
              long(c.k), operations / ours * 1e-9, operations / blas * 1e-9);
}

}  // namespace

int main() {
  omp_set_num_threads(1);  // the calling thread's clock must see all of the work
  std::printf("%s\n", libtrain::describe(libtrain::Device::kCpu).c_str());
  for (const Case& c : kCases) measure(c);
}
