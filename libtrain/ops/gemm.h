/// Not an operation: what the operations made of matrix products share.
#pragma once
#include "kernels/column_sum.h"
#include "kernels/gemm.h"
#include "libtrain/side_stream.h"
#include "libtrain/tape.h"

namespace libtrain::detail {

/// c (+)= op(a) op(b) + bias on `where`, with the workspace that it wants there.
template <class In, class Out> void run_gemm(Device where, kernels::Gemm<In, Out> product) {
  using A = accum_t<In>;
  LIBTRAIN_CHECK(std::max({product.m(), product.n(), product.k()}) <= kernels::kGemmMaxSize,
                 "[gemm] expected sizes below 2^31, got m {}, n {}, k {}; split the product", product.m(), product.n(),
                 product.k());
  LIBTRAIN_CHECK(product.batch.count <= kernels::kGemmMaxSize, "[gemm] expected a batch below 2^31, got {}; split it",
                 product.batch.count);
  on(where, [&](auto device) {
    Tensor workspace;
    if (const int64_t size = kernels::gemm_workspace(device, product)) {
      workspace = Tensor({size}, dtype_of<A>, where);
      product.workspace = workspace.view<A>();
    }
    kernels::gemm(device, product);
  });
}

/// Gradient of a bias that was added to every row: the sum of dy's rows.
template <class T> void run_column_sum(Device where, View<const T> dy, Sink<accum_t<T>> dbias) {
  if (!dbias) return;
  using A = accum_t<T>;
  on(where, [&](auto device) {
    const int64_t blocks = kernels::column_sum_blocks(device, dy.dims[0], dy.dims[1]);
    const Tensor workspace({blocks, dy.dims[1]}, dtype_of<A>, where);
    kernels::column_sum(device, kernels::ColumnSum<T>{dy, dbias, workspace.view<A>()});
  });
}

/// Calls `products`, which in backward write to these gradients and read of the step alone: beside the rest of backward, where that is asked
/// for (side_stream.h).
template <class F> void run_beside(Device where, std::span<const void* const> gradients, const F& products) {
  SideStream* const side = SideStream::active();
  if (side && where == Device::kCuda && !Tape::active() && !TapeObserver::present())
    side->run(gradients, products);
  else
    products();
}

/// Gradients of y = x weight^T + bias for weight and bias, of those that are wanted: on a CUDA device from one product.
template <class T, class A = accum_t<T>>
void run_weight_gradient(Device where, View<const T> dy, View<const T> x, Sink<A> dweight, Sink<A> dbias) {
  const bool together = where == Device::kCuda && dweight && dbias && x.size() > 0 && dy.size() > 0;
  kernels::Gemm<T, A> product{.a = dy, .b = x, .transpose_a = true, .c = dweight};
  if (together) product.sums = dbias;
  const void* const gradients[] = {dweight.data, dbias.data};
  run_beside(where, gradients, [&] {
    if (dweight) run_gemm(where, product);
    if (!together) run_column_sum(where, dy, dbias);
  });
}

}  // namespace libtrain::detail
