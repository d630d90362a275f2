/// Kernels compute the same bits in whatever order their warps, lanes and blocks run.
#include "catch.h"
#include "element_checks.h"
#include "hopper.h"
#include "kernels/cuda_on_cpu/executor.h"
#include "op_checks.h"
#include "optimizer_checks.h"
#include "train/toy.h"

namespace libtrain::testing {
namespace {

namespace executor = kernels::executor;
using executor::Order;

/// compute() in every order, bit for bit against the first.
template <class F> void check_orders_of(const F& compute) {
  executor::set_order({Order::kForward});
  const auto forward = compute();
  for (const Order order : {Order{Order::kReverse}, Order{Order::kRandom, 1}, Order{Order::kRandom, 2}}) {
    executor::set_order(order);
    INFO("order " << int(order.kind) << " seed " << order.seed);
    CHECK(same_bits(compute(), forward));
  }
  executor::set_order({Order::kForward});
}

/// Each row forward and backward.
void check_orders(DType dtype) {
  for (const OpCase& row : op_cases()) {
    if (row.big || (dtype == DType::bf16 && !row.has_bf16)) continue;
    DYNAMIC_SECTION(row.name) {
      check_orders_of([&] { return run(row, dtype, Device::kCuda); });
    }
  }
}

/// Norm, clip factor and everything that an update leaves.
template <class T> void check_update_orders(int64_t size, int64_t first) {
  INFO(name(dtype_of<T>) << ": " << size << " weights from " << first);
  check_orders_of([&] {
    const FlatBuffers<T> flat(size, first, Device::kCuda);
    flat.clip(0.5);
    flat.update(true);
    const StepState step = flat.step();
    return Result{{step.gradient_norm, step.gradient_scale, double(step.updates)},
                  {values_of(flat.weights), values_of(flat.m), values_of(flat.v), values_of(flat.rounded)}};
  });
}

template <class From, class To> void check_convert_orders(int64_t x_first, int64_t y_first) {
  INFO(name(dtype_of<From>) << " to " << name(dtype_of<To>) << ", first " << x_first << " and " << y_first);
  check_orders_of([&] {
    const Tensor x = Tensor::from(std::span<const double>(samples(20011)), {20011}).cast(dtype_of<From>);
    const Tensor from = x.to(Device::kCuda), to = Tensor::full({20011}, 5, dtype_of<To>, Device::kCuda);
    View<const From> part = tail_of<const From>(from, x_first);
    part.dims[0] = 20000;
    kernels::convert(cuda::current_stream(),
                     kernels::Convert<From, To>{part, {to.view<To>().data + y_first, part.dims}});
    return values_of(to);
  });
}

template <class T> void check_fill_orders(T value) {
  for (const int64_t first : {0, 1}) {
    INFO(name(dtype_of<T>) << " from " << first);
    check_orders_of([&] {
      const Tensor y = Tensor::zeros({20011}, dtype_of<T>, Device::kCuda);
      kernels::fill(cuda::current_stream(), kernels::Fill<T>{{y.view<T>().data + first, {20000, 1, 1, 1}}, value});
      Values values;
      for (const T element : y.to_vector<T>()) values.push_back(double(element));
      return values;
    });
  }
}

}  // namespace

TEST_CASE("orders: every row in f32", "[orders]") { check_orders(DType::f32); }
TEST_CASE("orders: every row in bf16", "[orders]") { check_orders(DType::bf16); }

TEST_CASE("orders: attention by the kernels for Hopper", "[orders]") {
  const HopperSwitch on(true);
  for (const OpCase& row : hopper_rows()) DYNAMIC_SECTION(row.name) {
      check_orders_of([&] { return run(row, DType::bf16, Device::kCuda); });
    }
}

TEST_CASE("orders: clip_by_norm and adam", "[orders]") {
  for (const int64_t first : {0, 1}) {
    check_update_orders<float>(70003, first);
    check_update_orders<double>(8003, first);
  }
  check_update_orders<float>((kernels::kClipSums + 3) * kernels::kClipBlock + 5, 0);  // more blocks than partial sums
}

TEST_CASE("orders: convert", "[orders]") {
  for (const auto& [x_first, y_first] : {std::pair<int64_t, int64_t>{0, 0}, {1, 0}, {0, 8}}) {
    check_convert_orders<float, bf16>(x_first, y_first);
    check_convert_orders<bf16, float>(x_first, y_first);
    check_convert_orders<float, double>(x_first, y_first);
    check_convert_orders<double, float>(x_first, y_first);
    check_convert_orders<bf16, bf16>(x_first, y_first);
  }
}

TEST_CASE("orders: fill", "[orders]") {
  check_fill_orders(-1.5f);
  check_fill_orders(bf16(3.0f));
  check_fill_orders(1e300);
  check_fill_orders(int32_t(-7));
  check_fill_orders(int64_t(1) << 40);
}

TEST_CASE("orders: 20 steps of training, with dropout, clipping and mixed precision", "[orders]") {
  const auto pairs = reversal_pairs(40);
  const auto weights_in = [&](Order order, bool mixed) {
    executor::set_order(order);
    ToyRun run(pairs, {.epochs = 4, .clip_norm = 0.5, .adam = {.learning_rate = 5e-3}}, 0.1f,
               ParametersOptions{.mixed_precision = mixed, .device = Device::kCuda, .seed = 5});
    run.loop.run();
    CHECK(run.loop.state().steps == 20);
    return run.weights();
  };
  for (const bool mixed : {false, true}) {
    INFO("mixed precision " << mixed);
    const auto forward = weights_in({Order::kForward}, mixed);
    for (const Order order : {Order{Order::kReverse}, Order{Order::kRandom, 1}, Order{Order::kRandom, 2}})
      CHECK(weights_in(order, mixed) == forward);
  }
  executor::set_order({Order::kForward});
}

}  // namespace libtrain::testing
