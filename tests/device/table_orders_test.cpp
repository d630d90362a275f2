/// Kernels compute the same bits in whatever order their warps, lanes and blocks run.
#include "catch.h"
#include "kernels/cuda_on_cpu/executor.h"
#include "op_checks.h"
#include "train/toy.h"

namespace libtrain::testing {
namespace {

namespace executor = kernels::executor;
using executor::Order;

/// Each row forward and backward in every order, bit for bit against the first.
void check_orders(DType dtype) {
  for (const OpCase& row : op_cases()) {
    if (row.big || (dtype == DType::bf16 && !row.has_bf16)) continue;
    DYNAMIC_SECTION(row.name) {
      executor::set_order({Order::kForward});
      const Result forward = run(row, dtype, Device::kCuda);
      for (const Order order : {Order{Order::kReverse}, Order{Order::kRandom, 1}, Order{Order::kRandom, 2}}) {
        executor::set_order(order);
        INFO("order " << int(order.kind) << " seed " << order.seed);
        CHECK(same_bits(run(row, dtype, Device::kCuda), forward));
      }
      executor::set_order({Order::kForward});
    }
  }
}

}  // namespace

TEST_CASE("orders: every row in f32", "[orders]") { check_orders(DType::f32); }
TEST_CASE("orders: every row in bf16", "[orders]") { check_orders(DType::bf16); }

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
