#include "catch.h"
#include "data/temporary_file.h"
#include "libtrain/libtrain.h"

namespace libtrain {
using test::message_of;

namespace {

Tensor leaf(double value, int64_t size = 2) {
  const Tensor tensor = Tensor::full({1, size}, value, DType::f64);
  tensor.set_requires_grad();
  return tensor;
}

/// y = 2 x, as an operation that a program would write itself.
Tensor doubled(const Tensor& x) {
  const Tensor y(x.shape(), x.dtype());
  for (int64_t i = 0; i < x.numel(); ++i) y.view<double>().data[i] = 2 * x.view<double>().data[i];
  record("doubled", y, {x}, {}, [](const BackwardStep& step) {
    const auto dy = step.doutput<double>();
    const auto dx = step.sink<double>(0);
    for (int64_t i = 0; i < dy.size(); ++i) dx.data[i] = (dx.accumulate ? dx.data[i] : 0) + 2 * dy.data[i];
  });
  return y;
}

/// An operation whose backward throws.
Tensor failing(const Tensor& x) {
  const Tensor y = x.detach().clone();
  record("failing", y, {x}, {}, [](const BackwardStep&) { throw Error("planned"); });
  return y;
}

}  // namespace

TEST_CASE("tape: records only while it lives, and only what leads to a gradient", "[tape]") {
  const Tensor x = leaf(3), constant = Tensor::full({1, 2}, 1, DType::f64);
  CHECK_FALSE(doubled(x).requires_grad());
  Tape tape;
  CHECK_FALSE(doubled(constant).requires_grad());
  CHECK(tape.size() == 0);
  {
    const NoTape pause;
    CHECK_FALSE(doubled(x).requires_grad());
  }
  const Tensor y = doubled(doubled(x));
  CHECK(tape.size() == 2);
  tape.backward(y, Tensor::full({1, 2}, 1, DType::f64));
  CHECK(tape.size() == 0);
  CHECK(x.grad().to_vector<double>() == std::vector<double>{4, 4});
}

TEST_CASE("tape: gradients of a tensor used twice add up, and over backward calls until cleared", "[tape]") {
  const Tensor x = leaf(1);
  const Tensor ones = Tensor::full({1, 2}, 1, DType::f64);
  for (int round = 1; round <= 2; ++round) {
    Tape tape;
    const Tensor a = doubled(x);
    tape.backward(doubled(a), ones);
    CHECK(x.grad().to_vector<double>()[0] == 4.0 * round);
  }
  x.clear_grad();
  Tape tape;
  tape.backward(doubled(x), ones);
  CHECK(x.grad().to_vector<double>()[0] == 2.0);
}

TEST_CASE("tape: activations return to the allocator during backward", "[tape]") {
  const Tensor x = leaf(1, 1 << 16);
  const int64_t before = allocator_stats(Device::kCpu).bytes_in_use;
  Tape tape;
  Tensor y = x;
  for (int i = 0; i < 16; ++i) y = doubled(y);
  const Tensor upstream = Tensor::full(y.shape(), 1, DType::f64);
  reset_peak(Device::kCpu);
  const int64_t held = allocator_stats(Device::kCpu).bytes_in_use;
  tape.backward(y, upstream);
  // One gradient at a time on top of what forward held, and nothing of it left but x's gradient, y and upstream.
  CHECK(allocator_stats(Device::kCpu).peak_bytes_in_use - held <= 3 * (8 << 16));
  CHECK(allocator_stats(Device::kCpu).bytes_in_use - before <= 4 * (8 << 16));
}

TEST_CASE("tape: a throw in mid-backward leaves an empty tape and no gradients", "[tape]") {
  const Tensor x = leaf(1), late = leaf(2);
  const Tensor ones = Tensor::full({1, 2}, 1, DType::f64);
  {
    Tape tape;
    const Tensor y = doubled(failing(doubled(x)));
    CHECK(message_of<Error>([&] { tape.backward(y, ones); }) == "planned");
    CHECK(tape.size() == 0);
    CHECK_FALSE(x.has_grad());
  }
  {  // a leaf whose gradient was complete before the throw is forgotten too
    Tape tape;
    const Tensor before = failing(x);
    const Tensor y = layer_norm(before, Tensor::full({2}, 1, DType::f64).set_requires_grad(), late.reshape({2}));
    CHECK_THROWS_AS(tape.backward(y, ones), Error);
    CHECK_FALSE(late.has_grad());
  }
  Tape tape;  // and the next one is as if nothing had happened
  tape.backward(doubled(x), ones);
  CHECK(x.grad().to_vector<double>() == std::vector<double>{2, 2});
}

TEST_CASE("tape: what outlives its tape is a leaf for the next one, and keeps its values", "[tape]") {
  const Tensor x = leaf(3), ones = Tensor::full({1, 2}, 1, DType::f64);
  for (const bool differentiated : {false, true}) {
    INFO((differentiated ? "after backward" : "without backward"));
    Tensor y;
    {
      Tape tape;
      y = doubled(x);
      if (differentiated) tape.backward(doubled(y), ones);
    }
    y.clear_grad();
    x.clear_grad();
    Tape tape;
    tape.backward(scale(y, 5), ones);  // scale() overwrites its input with its gradient where it may
    CHECK(y.to_vector<double>() == std::vector<double>{6, 6});
    CHECK(y.grad().to_vector<double>() == std::vector<double>{5, 5});
    CHECK_FALSE(x.has_grad());
  }
}

TEST_CASE("tape: a gradient takes over the memory of the one it is made of, unless somebody holds that", "[tape]") {
  const Tensor x = leaf(3), ones = Tensor::full({1, 2}, 1, DType::f64);
  // y = x + 1, whose gradient is passed on.
  bool taken = false;
  const auto passed = [&](const Tensor& input) {
    const Tensor y = input.detach().clone();
    record("passed", y, {input}, {y}, [&taken](const BackwardStep& step) {
      taken = step.gradient_is_ours(0, 0);
      const auto dy = step.doutput<double>();
      const auto dx = step.sink_over_gradient<double>(0, 0);
      CHECK((dx.data == dy.data) == taken);
      for (int64_t i = 0; i < dy.size(); ++i) dx.data[i] = (dx.accumulate ? dx.data[i] : 0) + dy.data[i];
    });
    return y;
  };
  const auto gradient = [&](auto&& function) {
    Tape tape;
    tape.backward(function(), ones);
    const auto values = x.grad().to_vector<double>();
    x.clear_grad();
    return values;
  };
  CHECK(gradient([&] { return doubled(passed(doubled(x))); }) == std::vector<double>{4, 4});
  CHECK(taken);
  Tensor held, held_gradient;
  CHECK(gradient([&] {
          held = passed(doubled(x));
          return doubled(held);
        }) == std::vector<double>{4, 4});
  CHECK_FALSE(taken);
  CHECK(held.grad().to_vector<double>() == std::vector<double>{2, 2});
  CHECK(gradient([&] { return doubled(passed(x)); }) == std::vector<double>{2, 2});  // a leaf keeps its own
  CHECK_FALSE(taken);
  CHECK(gradient([&] {
          const Tensor a = doubled(x);
          return add(passed(a), a);  // what add() has written for a comes first
        }) == std::vector<double>{4, 4});
  CHECK_FALSE(taken);
}

TEST_CASE("tape: misuse", "[tape]") {
  const Tensor x = leaf(1);
  Tape tape;
  CHECK(message_of<InvalidArgument>([&] { tape.backward(doubled(x)); }) ==
        "[backward] expected a scalar, got f64[1, 2]; reduce it first");
  CHECK(message_of<InvalidArgument>([&] { tape.backward(Tensor::zeros({})); }) ==
        "[backward] f32[] does not depend on anything recorded on this tape; make the Tape before the forward pass, "
        "and call set_requires_grad() on what is to be learnt");
  const Tensor ones = Tensor::full({1, 2}, 1, DType::f64), y = doubled(x), z = doubled(y);
  const auto refused = [&](Tape& on, const Tensor& output) {
    const std::string message = message_of<InvalidArgument>([&] { on.backward(output, ones); });
    return message.find("[backward] f64[1, 2] is not on this tape") == 0;
  };
  {
    Tape inner;
    const Tensor other = doubled(x);
    CHECK(refused(inner, y));  // recorded by the outer one
    CHECK(refused(tape, other));
  }
  CHECK(refused(tape, x));
  CHECK_FALSE(x.has_grad());
  tape.backward(y, ones);
  CHECK(x.grad().to_vector<double>() == std::vector<double>{2, 2});
  CHECK(refused(tape, y));  // its step has run
  CHECK(refused(tape, z));  // its step has gone with the others
  CHECK(x.grad().to_vector<double>() == std::vector<double>{2, 2});
}

TEST_CASE("tape: with mixed precision, any operation reaches parameters, whose gradients are kept in f32", "[tape]") {
  Parameters parameters({.mixed_precision = true, .seed = 2});
  const Tensor w = parameters.add("w", {4, 4}, init::normal(0, 1)),
               row = parameters.add("row", {1, 4}, init::normal(0, 1));
  const Tensor x = Tensor::full({4, 4}, 0.5, DType::bf16);
  const auto gradient = [&](auto&& function, const Tensor& of) {
    parameters.clear_gradients();
    Tape tape;
    const Tensor y = function();
    tape.backward(y, Tensor::full(y.shape(), 1, y.dtype()));
    return of.grad().cast(DType::f64).to_vector<double>();
  };
  CHECK(w.requires_grad());
  CHECK(gradient([&] { return scale(w, 3); }, w) == std::vector<double>(16, 3));
  CHECK(gradient([&] { return add(scale(w, 3), scale(w, 2)); }, w) == std::vector<double>(16, 5));
  CHECK(w.grad().dtype() == DType::f32);
  CHECK(gradient([&] { return matmul(x, w); }, w) == std::vector<double>(16, 2));
  CHECK(gradient([&] { return concat({row, x}, 0); }, row) == std::vector<double>(4, 1));
  // One that keeps the gradient of what is no parameter in f32, and one that passes it on in bf16.
  CHECK(gradient([&] { return linear(x, transpose(w, 0, 1)); }, w) == std::vector<double>(16, 2));
  CHECK(gradient(
            [&] {
              const Tensor turned = transpose(w, 0, 1);
              return add(linear(x, turned), scale(turned, 2));
            },
            w) == std::vector<double>(16, 4));
}

}  // namespace libtrain
