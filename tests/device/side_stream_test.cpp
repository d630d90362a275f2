/// TrainOptions::weight_gradient_stream: the same bits as without, and what else backward does with gradients of weights meanwhile. [streams]: training,
/// which is not repeated with instrumented kernels.
#include "side_stream.h"

#include <cstdlib>
#include <map>

#include "libtrain/side_stream.h"

namespace libtrain::testing {
namespace {

using Catch::Matchers::Contains;

/// Enough rows that products take a while, and that many operations' memory is handed out again while they do.
constexpr int64_t kRows = 96, kSize = 24;

Tensor random(const Shape& shape, uint64_t seed) {
  std::mt19937_64 generator(seed);
  std::vector<float> values(size_t(shape.numel()));
  for (float& value : values) value = float(generator() % 1000) / 500 - 1;
  return Tensor::from(std::span<const float>(values), shape, Device::kCuda);
}
Tensor weight(uint64_t seed) { return random({kSize, kSize}, seed).set_requires_grad(); }

std::vector<std::vector<float>> gradients(const std::vector<Tensor>& leaves) {
  std::vector<std::vector<float>> all;
  for (const Tensor& leaf : leaves) all.push_back(leaf.grad().cast(DType::f32).to_vector<float>());
  return all;
}

/// The gradients of sum(network(x)) with a second stream, then without; of two backward passes each, which add up.
void check_same(const std::vector<Tensor>& leaves, const std::function<Tensor(const Tensor& x)>& network) {
  const Tensor x = random({kRows, kSize}, 1);
  detail::SideStream side;
  std::vector<std::vector<std::vector<float>>> found;
  for (detail::SideStream* one : {&side, static_cast<detail::SideStream*>(nullptr)}) {
    for (const Tensor& leaf : leaves) leaf.clear_grad();
    for (int pass = 0; pass < 2; ++pass) {
      Tape tape;
      const Tensor loss = sum(network(x));
      const detail::SideStreamScope scope(one);
      tape.backward(loss);
      CHECK_FALSE(side.is_open());
    }
    found.push_back(gradients(leaves));
  }
  CHECK(found[0] == found[1]);
}

/// The identity, whose backward throws.
Tensor failing(const Tensor& x) {
  const Tensor y = x.detach();
  record("failing", y, {x}, {}, [](const BackwardStep&) { throw Error("planned"); });
  return y;
}

/// x weight^T, whose backward adds to the gradient of the weight twice: by a product, then by an operation of this thread's stream.
Tensor linear_with_decay(const Tensor& x, const Tensor& w) {
  const Tensor y({x.dim(0), w.dim(0)}, DType::f32, Device::kCuda);
  const View<const float> a = x.view<const float>(), b = w.view<const float>();
  const kernels::Gemm<float, float> product{.a = a, .b = b, .transpose_b = true, .c = {y.view<float>().data}};
  detail::run_gemm(Device::kCuda, product);
  record("linear_with_decay", y, {x, w}, {}, [a, b](const BackwardStep& step) {
    detail::run_weight_gradient<float>(Device::kCuda, step.doutput<float>(), a, step.sink<float>(1), {});
    on(Device::kCuda, [&](auto device) {
      kernels::scale(device, kernels::Scale<float>{b, 0.25, step.sink<float>(1)});
    });
  });
  return y;
}

/// Changes the gradients that it is shown and nobody needs any more, and reads the others.
struct Reader : TapeObserver {
  std::map<int64_t, std::vector<std::vector<float>>> seen;
  void forward(const Operation&) override {}
  void backward(const Operation& operation) override {
    for (const Tensor& output : operation.outputs) output.grad().fill(-1);
    for (const Tensor& input : operation.inputs)
      if (input.defined() && input.has_grad()) seen[operation.index].push_back(input.grad().to_vector<float>());
  }
};

}  // namespace

TEST_CASE("side stream: training has the same bits as without, eagerly and as graphs", "[streams]") {
  check_all_beside();
}

TEST_CASE("side stream: the option launches nothing more, and holds memory only where it is on", "[streams]") {
  const SideStreamOutcome off = train_beside({}), on = train_beside({.on = true});
  CHECK(on.launches == off.launches);
  CHECK(on.peak >= off.peak);
  if (cuda::executed_on_cpu()) CHECK(on.peak > off.peak);  // elsewhere a product's workspace may be what counts
  CHECK(double(on.peak) < 1.5 * double(off.peak));
  std::printf("peak of a training step beyond what is always there: %ld bytes, with a second stream %ld\n",
              long(off.peak), long(on.peak));
}

TEST_CASE("side stream: on the CPU there is none", "[device]") {
  const SideStreamOutcome off = train_beside({.device = Device::kCpu}),
                          on = train_beside({.on = true, .device = Device::kCpu});
  CHECK(on.weights == off.weights);
}

TEST_CASE("side stream: gradients that backward reads, adds to, or computes with", "[device]") {
  const Tensor a = weight(2), b = weight(3), bias = random({kSize}, 4).set_requires_grad();
  SECTION("a long chain") {
    check_same({a, b, bias}, [&](Tensor x) {
      for (int i = 0; i < 9; ++i) x = tanh(linear(x, i == 4 ? b : a, bias));
      return x;
    });
  }
  SECTION("a bias whose weight is a constant, by a sum over rows") {
    const Tensor frozen = random({kSize, kSize}, 5);
    check_same({bias, a},
               [&](const Tensor& x) { return linear(tanh(linear(linear(x, a, {}), frozen, bias)), frozen, bias); });
  }
  SECTION("a weight that an operation made, whose gradient that operation reads") {
    check_same({a, b}, [&](const Tensor& x) {
      return linear(tanh(linear(x, scale(a, 0.5), {})), permute(mul(a, b), {1, 0}), {});
    });
  }
  SECTION("a weight that is added to by another operation than a product") {
    check_same({a, b},
               [&](const Tensor& x) { return add(linear(x, add(a, b), {}), linear(relu(linear(x, a, {})), b, {})); });
  }
  SECTION("a table that is looked up first and multiplied by last") {
    const Tensor ids = Tensor::from<int32_t>({3, 0, 7, 3, 23, 1}, {6}, Device::kCuda);
    check_same({a}, [&](const Tensor&) { return linear(tanh(embedding(ids, a)), a, {}); });
  }
  SECTION("a weight that one step adds to on both streams") {
    check_same({a}, [&](const Tensor& x) { return tanh(linear_with_decay(x, a)); });
  }
  SECTION("an input that others read, too") {
    check_same({a, b, bias}, [&](const Tensor& x) {
      const Tensor h = linear(x, a, {});
      return add(add(linear(h, b, bias), tanh(h)), scale(h, 2));
    });
  }
  SECTION("a weight that a product made, whose gradient is converted from f32 for that product") {
    const auto in_bf16 = [](const Tensor& tensor) { return tensor.cast(DType::bf16).set_requires_grad(); };
    const Tensor p = in_bf16(a), q = in_bf16(b);
    check_same({p, q}, [&](const Tensor& x) {
      Tensor made = q;
      for (int i = 0; i < 6; ++i) made = linear(tanh(made), p, {});
      return linear(x.cast(DType::bf16), made, {});
    });
  }
  SECTION("queries, keys and values by one weight") {
    Parameters store(
        {.device = Device::kCuda});  // where weights lie equally far apart, so that one product serves both
    store.add("w", {3 * kSize, kSize}, init::normal(0, 0.2)), store.add("v", {3 * kSize, kSize}, init::normal(0, 0.2));
    const Tensor w = store.get("w"), v = store.get("v");
    check_same({a, w, v}, [&](const Tensor& x) {
      const Tensor memory = tanh(linear(x, a, {}));
      const MemoryProjections all(memory, {w, v});
      const CrossProjection own = cross_projection(x, memory, w);
      const Tensor first = all.queries(0, add(x, own.queries)), second = all.queries(1, first);
      return add(add(linear(second, a, {}), narrow(all.keys_values(0), 1, 0, kSize)),
                 add(narrow(all.keys_values(1), 1, kSize, kSize), narrow(own.keys_values, 1, 0, kSize)));
    });
  }
}

TEST_CASE("side stream: a step that throws leaves nothing under way", "[device]") {
  const Tensor x = random({kRows, kSize}, 1), a = weight(2), b = weight(3);
  auto side = std::make_unique<detail::SideStream>();
  const auto differentiate = [&](bool fails, detail::SideStream* beside) {
    Tape tape;
    const Tensor h = linear(x, a, {});
    const Tensor loss = sum(linear(tanh(linear(fails ? failing(h) : h, b, {})), b, {}));
    const detail::SideStreamScope scope(beside);
    tape.backward(loss);
  };
  differentiate(false, nullptr);
  const auto expected = gradients({a, b});
  for (const Tensor& leaf : {a, b}) leaf.clear_grad();
  CHECK_THROWS_WITH(differentiate(true, side.get()), "planned");
  CHECK_FALSE(b.has_grad());
  CHECK_FALSE(side->is_open());
  differentiate(false, nullptr);
  cuda::synchronize();
  side.reset();  // what it still had to do would be done now
  CHECK(gradients({a, b}) == expected);
}

TEST_CASE("side stream: an observer sees every gradient complete, and may change what it is shown", "[device]") {
  const Tensor x = random({kRows, kSize}, 1), a = weight(2), b = weight(3);
  detail::SideStream side;
  std::vector<std::map<int64_t, std::vector<std::vector<float>>>> seen;
  for (detail::SideStream* one : {&side, static_cast<detail::SideStream*>(nullptr)}) {
    for (const Tensor& leaf : {a, b}) leaf.clear_grad();
    Tape tape;
    const Tensor loss = sum(linear(tanh(linear(linear(x, a, {}), b, {})), a, {}));
    const detail::SideStreamScope scope(one);
    Reader reader;
    tape.backward(loss);
    seen.push_back(reader.seen);
  }
  CHECK(seen[0].size() == 5);
  CHECK(seen[0] == seen[1]);
}

TEST_CASE("side stream: it has memory and tickets of its own, captured or not", "[device]") {
  detail::SideStream side;
  const auto check = [&] {
    const auto block = [] { return Tensor({5000}, DType::f32, Device::kCuda).node_handle()->data; };
    const std::byte* const freed = block();
    const unsigned* const tickets = cuda::current_stream().tickets;
    side.run({}, [&] {
      CHECK(block() != freed);
      CHECK(std::abs(cuda::current_stream().tickets - tickets) >= kTickets);
    });
    CHECK(block() == freed);
    CHECK(cuda::current_stream().tickets == tickets);
    side.join();
  };
  check();
  const MemoryPool pool;
  const cuda::Graph graph(pool, check);
}

TEST_CASE("side stream: captured and thrown away, a step leaves streams and memory usable", "[device]") {
  const MemoryPool pool;
  const Tensor x = random({kRows, kSize}, 1), a = weight(2), b = weight(3), frozen = random({kSize, kSize}, 5);
  const Tensor bias = random({kSize}, 4).set_requires_grad();
  const std::vector<Tensor> leaves{a, b, bias};
  detail::SideStream side;
  const auto differentiate = [&](bool fails) {
    Tape tape;
    const Tensor h = linear(linear(x, a, {}), frozen, bias);
    const Tensor loss = sum(linear(tanh(linear(fails ? failing(h) : h, b, {})), b, {}));
    const detail::SideStreamScope scope(&side);
    tape.backward(loss);
  };
  differentiate(false);
  const auto expected = gradients(leaves);
  for (const Tensor& leaf : leaves) leaf.clear_grad();
  CHECK_THROWS_WITH(cuda::Graph(pool, [&] { differentiate(true); }), "planned");
  for (const Tensor& leaf : leaves) leaf.clear_grad();
  const cuda::Graph graph(pool, [&] { differentiate(false); });
  for (int i = 0; i < 3; ++i) {
    for (const Tensor& leaf : leaves) leaf.grad().fill(-1);
    graph.launch();
    CHECK(gradients(leaves) == expected);
  }
}

TEST_CASE("side stream: memory that runs out anywhere in a step leaves the loop as it was", "[streams]") {
  const auto pairs = reversal_pairs(16);
  for (const bool graphs : {false, true}) {
    CAPTURE(graphs);
    BucketedBatchesOptions buckets{.pairs = 8, .batches_per_bucket = 2, .prefetch = 0};
    buckets.batch = {.capacity_multiple = 64, .pairs_multiple = 8, .length_multiple = 8};
    const TrainOptions options{.epochs = 3, .graphs = graphs, .weight_gradient_stream = true};
    const ParametersOptions store{.device = Device::kCuda, .seed = 5};
    ToyRun calm(pairs, options, 0.1f, store, buckets), run(pairs, options, 0.1f, store, buckets);
    calm.loop.run();
    int64_t failures = 0;
    for (int64_t k = 0;; k += 3) {  // of one step after the other: in the second a graph is captured
      fail_allocations(k, 1);
      bool more = true;
      try {
        more = run.loop.step();
      } catch (const OutOfMemory&) {
        ++failures;
        continue;
      }
      if (!more) break;
      k = -3;
    }
    fail_allocations(0, 0);
    CHECK(failures > 100);
    CHECK(run.weights() == calm.weights());
  }
}

}  // namespace libtrain::testing
