/// The memory plan against the memory that training takes, and what it refuses.
#include "train/memory_plan_checks.h"

#include <filesystem>
#include <fstream>

#include "catch.h"
#include "data/temporary_file.h"
#include "libtrain/host_memory.h"

namespace libtrain::testing {
namespace {

constexpr Device kCpu = Device::kCpu;

/// A case whose peak is well above the least margin.
PlannedCase large_case() {
  return {.name = "large", .size = 128, .layers = 3, .batching = {.tokens = 4000}, .pairs = 1000};
}

}  // namespace

TEST_CASE("memory plan: activations within a tenth of what an epoch needs", "[memory_plan]") {
  for (const PlannedCase& c : planned_cases()) {
    INFO(c.name);
    PlannedRun run(c, kCpu);
    const MemoryPlan plan = run.plan();
    const int64_t measured = run.measured_peak();
    INFO(plan.str() << "measured " << measured << ", planned " << plan.peak());
    CHECK(activations_error(plan, measured) < 0.1);
  }
}

TEST_CASE("memory plan: a plan for another model or half the batch is noticed by that", "[memory_plan]") {
  PlannedRun run({"tokens"}, kCpu);
  const int64_t measured = run.measured_peak();
  CHECK(activations_error(run.plan(), measured) < 0.1);
  CHECK(activations_error(PlannedRun({"tokens"}, kCpu, 1000).plan(), measured) > 0.1);
  const auto with_other_head = [&](const Batch& batch) {
    const Tensor logits = run.model(batch);
    return cross_entropy(logits, batch.target_out, kPad);  // holds all logits
  };
  CHECK(activations_error(plan_memory(run.parameters, run.batches, with_other_head), measured) < 0.1);  // few classes
  const auto twice = [&](const Batch& batch) {
    const TokenLoss a = run.model.loss(batch), b = run.model.loss(batch);
    return TokenLoss{add(a.sum, b.sum), a.count};
  };
  CHECK(activations_error(plan_memory(run.parameters, run.batches, twice), measured) > 0.1);
}

TEST_CASE("memory plan: within the margin where logits outgrow their chunk between probe and batch", "[memory_plan]") {
  for (const int64_t vocab : {3000, 6000, 12000, 50000}) {
    PlannedRun run({.name = "vocabulary", .size = 16, .layers = 1, .vocab = vocab, .pairs = 200}, kCpu);
    const MemoryPlan plan = run.plan();
    const int64_t measured = run.measured_peak();
    INFO(vocab << '\n' << plan.str() << "measured " << measured << ", planned " << plan.peak());
    CHECK(std::abs(plan.peak() - measured) <= plan.margin());
  }
}

TEST_CASE("memory plan: counts the moments that the optimizer will keep, before they are there and after",
          "[memory_plan]") {
  for (const double momentum : {-1.0, 0.9, 0.0}) {
    const Optimizer optimizer = momentum < 0 ? adam({}) : sgd({.momentum = momentum});
    INFO(optimizer.info.name << ", momentum " << momentum);
    const int64_t others = allocator_stats(kCpu).bytes_for(MemoryUse::kOptimizer);
    PlannedRun run(large_case(), kCpu);
    const int64_t moments = optimizer.info.moments;
    const MemoryPlan plan = run.plan({.moments = moments});
    CHECK(plan.optimizer - others == moments * run.parameters.flat_size() * 4);
    const int64_t measured = run.measured_peak(optimizer);
    CHECK(allocator_stats(kCpu).bytes_for(MemoryUse::kOptimizer) == plan.optimizer);
    CHECK(activations_error(plan, measured) < 0.1);
    CHECK(run.plan({.moments = moments}).optimizer == plan.optimizer);
    CHECK(run.plan({.limit = plan.peak(), .moments = moments}).available == plan.peak());
  }
  CHECK_THROWS_AS(PlannedRun({"tokens"}, kCpu).plan({.moments = 3}), InvalidArgument);
}

TEST_CASE("memory plan: changes nothing of a store", "[memory_plan]") {
  PlannedRun planned({.name = "planned", .pairs = 100}, kCpu), plain({.name = "plain", .pairs = 100}, kCpu);
  const auto values = planned.parameters.values().to_vector<float>();
  planned.parameters.set_random({3, 5});
  const RandomState random = planned.parameters.random();
  planned.parameters.shrink_to_fit();
  const int64_t in_use = allocator_stats(kCpu).bytes_in_use;
  planned.plan();
  CHECK(planned.parameters.values().to_vector<float>() == values);
  CHECK(planned.parameters.random().seed == random.seed);
  CHECK(planned.parameters.random().step == random.step);
  CHECK(allocator_stats(kCpu).bytes_in_use == in_use);
  CHECK(allocator_stats(kCpu).peak_bytes_in_use == in_use);
  for (const auto& slot : planned.parameters.slots()) CHECK_FALSE(slot.value.has_grad());
  planned.measured_peak();
  plain.measured_peak();
  CHECK(planned.parameters.values().to_vector<float>() == plain.parameters.values().to_vector<float>());
}

TEST_CASE("memory plan: refuses what cannot fit, with a limit that fits, and nothing that would", "[memory_plan]") {
  PlannedRun run(large_case(), kCpu);
  const MemoryPlan plan = run.plan();
  const int64_t measured = run.measured_peak();
  REQUIRE(measured > 100 << 20);
  CHECK_NOTHROW(run.plan({.limit = measured}).check());
  const MemoryPlan refused = run.plan({.limit = plan.peak() / 2});
  REQUIRE_THROWS_AS(refused.check(), OutOfMemory);
  REQUIRE(refused.tokens_that_fit > refused.longest);
  PlannedRun smaller(large_case(), kCpu, refused.tokens_that_fit);
  const int64_t others = allocator_stats(kCpu).bytes_in_use;
  CHECK(smaller.measured_peak() - others <= refused.available);
  CHECK(refused.tokens_that_fit > 4000 / 4);  // half the memory, most of it of activations
  const MemoryPlan hopeless = run.plan({.limit = 18 << 20});
  CHECK(hopeless.tokens_that_fit == 0);
  const int64_t whatever_the_batch = hopeless.peak() - hopeless.activations - hopeless.batches;  // of both stores
  const auto message = [&](int64_t limit) {
    return test::message_of<OutOfMemory>([&] { run.plan({.limit = limit}).check(); });
  };
  CHECK(message(whatever_the_batch + (1 << 20)).find("; use a smaller model:") == std::string::npos);
  CHECK(message(whatever_the_batch + (1 << 20)).find(": use a smaller model or shorter texts") != std::string::npos);
  CHECK(message(whatever_the_batch - (1 << 20)).find("; use a smaller model: ") != std::string::npos);
}

TEST_CASE("memory plan: no probe is larger than half of a batch, nor than what fits", "[memory_plan]") {
  PlannedRun run({.name = "one batch", .size = 32, .layers = 1, .batching = {.tokens = 8000}}, kCpu);
  int64_t most = 0;
  const auto loss = [&](const Batch& batch) {
    most = std::max(most, batch.source_tokens + batch.target_tokens);
    return run.model.loss(batch);
  };
  const auto most_within = [&](int64_t limit) {
    most = 0;
    plan_memory(run.parameters, run.batches, loss, {.limit = limit});
    return most;
  };
  const BatchSize largest = run.plan().largest;
  const int64_t half = (largest.source_tokens + largest.target_tokens) / 2;
  CHECK(most_within(0) >= half);
  CHECK(most_within(0) <= half + 2);
  CHECK(most_within(run.plan().peak() / 4) <= half / 2 + 2);
}

TEST_CASE("memory plan: sizes are those of the batches that are built", "[memory_plan]") {
  const auto pairs = pairs_of({"sizes"});
  BucketedBatches batches(pairs, {.tokens = 100, .batch = {.capacity_multiple = 16}});
  for (const int64_t epoch : {0, 1}) {
    const int64_t count = batches.begin_epoch(epoch);
    const auto sizes = batches.sizes();
    REQUIRE(int64_t(sizes.size()) == count);
    for (int64_t i = 0; i < count; ++i) {
      const Batch batch = batches.get(i);
      const BatchSize& size = sizes[size_t(i)];
      CHECK(size.pairs == batch.pairs);
      CHECK(size.source_tokens == batch.source.tokens());
      CHECK(size.target_tokens == batch.target.tokens());
      CHECK(size.longest_source == batch.source.max_length);
      CHECK(size.longest_target == batch.target.max_length);
    }
  }
}

TEST_CASE("memory plan: what the host has is the least that system and control groups leave", "[memory_plan]") {
  namespace fs = std::filesystem;
  const test::TemporaryFile place("");
  const fs::path root = place.folder() + "/root";
  const auto write = [&](const std::string& path, const std::string& text) {
    fs::create_directories((root / path).parent_path());
    std::ofstream(root / path) << text;
  };
  const auto available = [&] { return detail::available_host_memory(root.string()); };
  CHECK(available() == std::numeric_limits<int64_t>::max());
  write("proc/meminfo", "MemTotal:       9000 kB\nMemFree:   10 kB\nMemAvailable:    5000 kB\nSwapFree:  100 kB\n");
  CHECK(available() == 5100 * 1024);
  write("proc/self/cgroup", "0::/outer/inner\n");
  write("sys/fs/cgroup/outer/inner/memory.max", "max\n");
  write("sys/fs/cgroup/outer/inner/memory.current", "1000\n");
  CHECK(available() == 5100 * 1024);
  write("sys/fs/cgroup/outer/memory.max", "3000000\n");
  write("sys/fs/cgroup/outer/memory.current", "2000000\n");
  CHECK(available() == 1000000 + 100 * 1024);
  write("sys/fs/cgroup/outer/memory.stat", "anon 1\ninactive_file 500000\n");
  CHECK(available() == 1500000 + 100 * 1024);
  write("proc/self/cgroup",
        "9:cpu:/\n4:memory:/elsewhere\n0::/\n");  // a container that sees its own group at the mount
  write("sys/fs/cgroup/memory/memory.limit_in_bytes", "700000\n");
  write("sys/fs/cgroup/memory/memory.usage_in_bytes", "800000\n");
  CHECK(available() == 100 * 1024);
  write("sys/fs/cgroup/memory/memory.stat", "total_inactive_file 300000\n");
  CHECK(available() == 200000 + 100 * 1024);
}

}  // namespace libtrain::testing
