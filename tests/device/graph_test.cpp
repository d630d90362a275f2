/// Captured work: whatever changes from step to step reaches kernels through memory, so that a step which is given to the device again, with
/// the arguments of the last one, is the next step.
#include <set>
#include <thread>

#include "catch.h"
#include "kernels/cuda/runtime.h"
#include "train/toy.h"

namespace libtrain::testing {
namespace {

using Catch::Matchers::Contains;

Tensor on_device(float value) { return Tensor::full({1000}, value, DType::f32, Device::kCuda); }

/// Batches of few layouts.
const BucketedBatchesOptions kBuckets{
    .pairs = 8, .batches_per_bucket = 2, .batch = {.capacity_multiple = 32, .pairs_multiple = 8, .length_multiple = 8}};

TrainOptions options(bool graphs, int64_t accumulate = 1) {
  return {.epochs = 6,
          .accumulate = accumulate,
          .clip_norm = 0.5,
          .adam = {.learning_rate = 5e-3},
          .schedule = linear_schedule(4, 20),
          .graphs = graphs};
}

struct Outcome {
  std::vector<double> weights, losses;
  cuda::Counters last_epoch;
};

Outcome train(const TrainOptions& options, const ParametersOptions& store) {
  const auto pairs = reversal_pairs(60);
  ToyRun run(pairs, options, 0.1f, store, kBuckets);
  Outcome outcome;
  cuda::Counters before;
  run.loop.on_step([&](const StepReport& r) { outcome.losses.push_back(r.loss); });
  run.loop.on_epoch([&](const EpochReport& r) {
    if (r.epoch == options.epochs - 2) before = cuda::counters();
  });
  run.loop.run();
  outcome.weights = run.weights();
  const cuda::Counters after = cuda::counters();
  outcome.last_epoch = {.launches = after.launches - before.launches,
                        .graph_launches = after.graph_launches - before.graph_launches};
  return outcome;
}

void check_same(const ParametersOptions& store, int64_t accumulate) {
  const Outcome eager = train(options(false, accumulate), store), replayed = train(options(true, accumulate), store);
  CHECK(replayed.losses == eager.losses);
  CHECK(replayed.weights == eager.weights);
  CHECK(eager.last_epoch.graph_launches == 0);
  CHECK(eager.last_epoch.launches > 8 * 50);
  CHECK(replayed.last_epoch.graph_launches == 8);  // batches of 60 pairs
  CHECK(replayed.last_epoch.launches <= 2);        // weights() casts
}

}  // namespace

TEST_CASE("graphs: captured work is done when it is launched, each time with what memory holds by then", "[device]") {
  const MemoryPool pool;
  const Tensor x = on_device(1), y = on_device(2);
  const cuda::Graph graph(pool, [&] { y.copy_from(add(x, y)); });
  CHECK(y.to_vector<float>() == std::vector<float>(1000, 2));
  graph.launch();
  CHECK(y.to_vector<float>() == std::vector<float>(1000, 3));
  x.fill(10);
  graph.launch();
  graph.launch();
  CHECK(y.to_vector<float>() == std::vector<float>(1000, 23));
}

TEST_CASE("graphs: nobody else gets the memory that captured work uses", "[device]") {
  const MemoryPool pool;
  const Tensor x = on_device(1), y = on_device(0);
  std::set<const std::byte*> used;
  const cuda::Graph graph(pool, [&] {
    const Tensor inner = add(x, x), sum = add(x, inner);
    used = {inner.node_handle()->data, sum.node_handle()->data};
    y.copy_from(sum);
  });
  std::vector<Tensor> others;
  for (int i = 0; i < 8; ++i) {
    others.push_back(on_device(-1));
    CHECK_FALSE(used.contains(others.back().node_handle()->data));
  }
  release_cached(Device::kCuda);
  CHECK(allocator_stats(Device::kCuda).bytes_cached >= 2 * 4000);  // the pool's own
  graph.launch();
  for (const Tensor& other : others) CHECK(other.to_vector<float>() == std::vector<float>(1000, -1));
  CHECK(y.to_vector<float>() == std::vector<float>(1000, 3));
}

TEST_CASE("graphs: memory of others that is let go while capturing is theirs again afterwards", "[device]") {
  const MemoryPool pool;
  Tensor x = on_device(1);
  const std::byte* const address = x.node_handle()->data;
  const Tensor y = on_device(0);
  const cuda::Graph graph(pool, [&] {
    x = Tensor();
    CHECK(on_device(2).node_handle()->data != address);  // one of the pool
    y.fill(5);
  });
  const Tensor again = on_device(3);
  CHECK(again.node_handle()->data == address);
  graph.launch();
  CHECK(again.to_vector<float>() == std::vector<float>(1000, 3));
  CHECK(y.to_vector<float>() == std::vector<float>(1000, 5));
}

TEST_CASE("graphs: memory that one thread lets go while capturing waits for that thread, whoever else ends a capture",
          "[device]") {
  const cuda::Stream one, other;
  const MemoryPool pool, of_the_thread;
  const Tensor copy = on_device(0);
  cuda::synchronize();
  Tensor x;
  const auto on = [](const cuda::Stream& stream, auto work) {
    const cuda::StreamScope scope(stream);
    return work();
  };
  on(one, [&] {
    x = on_device(4);
    cuda::synchronize();
  });
  on(other, [&] {
    for (int i = 0; i < 20; ++i) copy.copy_from(x);
    const cuda::Graph graph(pool, [&] {
      x = Tensor();
      std::thread([&] { const cuda::Graph graph(of_the_thread, [] { on_device(0); }); }).join();
      copy.fill(5);
    });
  });
  const Tensor again = on(one, [] { return on_device(3); });
  on(one, [] { cuda::synchronize(); });
  CHECK(on(other, [&] { return copy.to_vector<float>(); }) == std::vector<float>(1000, 4));
  CHECK(on(one, [&] { return again.to_vector<float>(); }) == std::vector<float>(1000, 3));
}

TEST_CASE("graphs: memory of a pool goes back to the system with it", "[device]") {
  release_cached(Device::kCuda);
  const int64_t before = allocator_stats(Device::kCuda).bytes_cached;
  const Tensor x = on_device(1);
  {
    const MemoryPool pool;
    const cuda::Graph graph(pool, [&] { add(x, x); });
    CHECK(allocator_stats(Device::kCuda).bytes_cached > before);
  }
  CHECK(allocator_stats(Device::kCuda).bytes_cached == before);
}

TEST_CASE("graphs: moments are not made in captured work, which would begin them anew each time", "[device]") {
  const MemoryPool pool;
  Parameters parameters({.device = Device::kCuda});
  parameters.add("w", {1000}, init::constant(1));
  CHECK_THROWS_WITH(cuda::Graph(pool, [&] { adam_update(parameters, {}); }),
                    "[parameters] moments cannot be made in captured work: each launch would begin them anew; call "
                    "keep_moments() before");
  CHECK(parameters.moments() == 0);
  kernels::runtime::begin_capture(cuda::current_stream());  // by a program itself, without a pool
  CHECK(cuda::is_capturing());
  CHECK_THROWS_AS(parameters.keep_moments(2), DeviceError);
  kernels::runtime::destroy_graph(kernels::runtime::end_capture(cuda::current_stream()));
  CHECK_FALSE(cuda::is_capturing());
  CHECK(parameters.moments() == 0);
  parameters.keep_moments(2);
  const cuda::Graph graph(pool, [&] { adam_update(parameters, {}); });
  graph.launch();
  cuda::synchronize();
}

TEST_CASE("graphs: a launch on another stream is refused, where what kernels note of indices would be lost",
          "[device]") {
  const MemoryPool pool;
  const Tensor table = Tensor::full({3, 4}, 1, DType::f32, Device::kCuda);
  const Tensor ids = Tensor::from({0, 3}, {2}, Device::kCuda), y = Tensor::full({2, 4}, 2, DType::f32, Device::kCuda);
  const cuda::Graph graph(pool, [&] { y.copy_from(embedding(ids, table)); });
  {
    const cuda::Stream other;
    const cuda::StreamScope scope(other);
    CHECK_THROWS_WITH(graph.launch(), Contains("[graph] expected the stream that the graph was captured on"));
    CHECK(cuda::take_bad_index().op == BadIndex::kNone);
  }
  CHECK(y.to_vector<float>() == std::vector<float>(8, 2));
  for (int i = 0; i < 2; ++i) {
    graph.launch();
    CHECK(y.to_vector<float>() == std::vector<float>{1, 1, 1, 1, 0, 0, 0, 0});
    const BadIndex bad = cuda::take_bad_index();
    CHECK(std::tuple(bad.op, bad.row, bad.value, bad.limit) == std::tuple(BadIndex::kEmbedding, 1, 3, 3));
  }
}

TEST_CASE("graphs: what depends on the host is refused, and the stream is usable afterwards", "[device]") {
  const MemoryPool pool;
  const Tensor x = on_device(1);
  const auto capture = [&](const std::function<void()>& work) { const cuda::Graph graph(pool, work); };
  CHECK_THROWS_WITH(capture([&] { x.to_vector<float>(); }),
                    Contains("[graph] copies between host and device cannot be"));
  CHECK_THROWS_WITH(capture([&] { Tensor::from<float>({1}, {1}, Device::kCuda); }), Contains("cannot be captured"));
  CHECK_THROWS_AS(capture([&] { cuda::synchronize(); }), DeviceError);
  CHECK_THROWS_AS(capture([&] { throw std::out_of_range("a program's own"); }), std::out_of_range);
  CHECK(add(x, x).to_vector<float>() == std::vector<float>(1000, 2));
}

TEST_CASE("graphs: eager and captured training have the same bits, in one launch a mini-batch", "[device]") {
  SECTION("f32") { check_same({.device = Device::kCuda, .seed = 5}, 1); }
  SECTION("f32, accumulated") { check_same({.device = Device::kCuda, .seed = 5}, 3); }
  SECTION("mixed precision") { check_same({.mixed_precision = true, .device = Device::kCuda, .seed = 5}, 1); }
}

TEST_CASE("graphs: the comparison would notice what does not reach kernels through memory", "[device]") {
  const auto pairs = reversal_pairs(60);
  const ParametersOptions store{.device = Device::kCuda, .seed = 5};
  std::vector<std::vector<double>> weights;
  for (const bool graphs : {false, true}) {
    Parameters parameters(store);
    const Transformer model(parameters, toy_options());
    BucketedBatchesOptions buckets = kBuckets;
    buckets.batch.device = Device::kCuda;
    BucketedBatches batches(pairs, buckets);
    double factor = 1;
    TrainLoop loop(
        parameters, batches,
        [&](const Batch& batch) {
          const TokenLoss loss = model.loss(batch);
          return TokenLoss{scale(loss.sum, factor *= 0.9), loss.count};  // a number of the host that changes
        },
        options(graphs));
    loop.run();
    weights.push_back(parameters.values().cast(DType::f64).to_vector<double>());
  }
  CHECK(weights[0] != weights[1]);
}

TEST_CASE("graphs: a loss that launches other kernels each time is refused", "[device]") {
  const auto pairs = reversal_pairs(8);
  Parameters parameters({.device = Device::kCuda});
  const Transformer model(parameters, toy_options());
  BucketedBatches batches(pairs, {.pairs = 8, .shuffle = false, .batch = {.device = Device::kCuda}});
  int calls = 0;
  TrainLoop loop(parameters, batches,
                 [&](const Batch& batch) {
                   for (int i = 0; i < calls; ++i) on_device(1);
                   ++calls;
                   return model.loss(batch);
                 },
                 {.epochs = 10, .graphs = true});
  CHECK_THROWS_WITH(loop.run(), Contains("of the same layout") && Contains("set graphs to false"));
}

TEST_CASE("graphs: what other threads launch meanwhile is none of a loop's business", "[device]") {
  const auto pairs = reversal_pairs(24);
  const ParametersOptions store{.device = Device::kCuda, .seed = 5};
  ToyRun run(pairs, options(true), 0.1f, store, kBuckets), calm(pairs, options(true), 0.1f, store, kBuckets);
  calm.loop.run();
  {
    const std::jthread other([](const std::stop_token& stop) {
      const cuda::Stream stream;
      const cuda::StreamScope scope(stream);
      while (!stop.stop_requested()) on_device(1);
    });
    run.loop.run();
  }
  CHECK(run.weights() == calm.weights());
}

TEST_CASE("graphs: a loss that is a plain scalar is captured, too", "[device]") {
  const auto pairs = reversal_pairs(24);
  std::vector<std::vector<double>> weights;
  for (const bool graphs : {false, true}) {
    Parameters parameters({.device = Device::kCuda, .seed = 5});
    const Transformer model(parameters, toy_options());
    BucketedBatchesOptions buckets = kBuckets;
    buckets.batch.device = Device::kCuda;
    BucketedBatches batches(pairs, buckets);
    TrainLoop loop(
        parameters, batches, [&](const Batch& batch) { return model.loss(batch).mean(); }, options(graphs));
    loop.run();
    weights.push_back(parameters.values().cast(DType::f64).to_vector<double>());
  }
  CHECK(weights[0] == weights[1]);
}

TEST_CASE("graphs: groups, frozen parameters and handlers of updates that come in between are seen", "[device]") {
  const auto pairs = reversal_pairs(24);
  std::vector<std::vector<double>> weights;
  for (const bool graphs : {false, true}) {
    ToyRun run(pairs, options(graphs), 0.1f, {.device = Device::kCuda, .seed = 5}, kBuckets);
    int64_t updates = 0;
    run.loop.on_epoch([&](const EpochReport& r) {
      if (r.epoch == 2)
        run.parameters.freeze([](const Parameters::Slot& slot) { return slot.name.starts_with("encoder"); });
      if (r.epoch == 3) run.loop.on_update([&](const Parameters&) { ++updates; });
    });
    run.loop.run();
    CHECK(updates == 6);
    weights.push_back(run.weights());
  }
  CHECK(weights[0] == weights[1]);
}

}  // namespace libtrain::testing
