/// Memory that runs out: every allocation of tensors and workspaces, on the CPU. See tests/trust/out_of_memory.cpp for all others.
#include "train/memory_faults.h"

#include "catch.h"
#include "data/temporary_file.h"

namespace libtrain::testing {
namespace {

const ParametersOptions kStore{.seed = 5, .average = true}, kMixed{.mixed_precision = true, .seed = 5, .average = true};

void check(const MemoryFaults& result, int64_t least) {
  CHECK(result.faults == "");
  CHECK(result.failures >= least);
}

}  // namespace

TEST_CASE("memory faults: any allocation that fails leaves everything as it was, and the work can be done again",
          "[memory]") {
  const bool forever = GENERATE(false, true);
  INFO((forever ? "from one on" : "once"));
  check(faults_of_steps(fail_allocations, forever, kStore), 300);
  check(faults_of_steps(fail_allocations, forever, kMixed, 3), 100);
  check(faults_of_construction(fail_allocations, forever, kStore), 100);
  check(faults_of_adding(fail_allocations, forever, kStore), 20);
  check(faults_of_adding(fail_allocations, forever, kMixed), 20);
  check(faults_of_batches(fail_allocations, forever, Device::kCpu), 5);
  const test::TemporaryFile place("");
  check(faults_of_checkpoints(fail_allocations, forever, kStore, place.folder()), 0);  // files lie in ordinary memory
}

TEST_CASE("memory faults: the message names what was asked for and what is in use", "[memory]") {
  fail_allocations(1, 1);
  const Tensor first({3}, DType::f32);
  const std::string message = test::message_of<OutOfMemory>([] { Tensor({5}, DType::f64); });
  CHECK(
      message.starts_with("[allocator] cpu memory: asked for 256 bytes of other tensors with none cached and in use "));
  const Tensor third({3}, DType::f32);
}

TEST_CASE("memory faults: the check would notice a step that keeps memory, and one that is half done", "[memory]") {
  const ArmFaults leaks = [](int64_t first, int64_t count) {
    static std::vector<Tensor> kept;
    const bool failed = fail_allocations(0, 0);
    if (count == 0) kept.push_back(Tensor({1000}, DType::f32));
    fail_allocations(first, count);
    return failed;
  };
  CHECK(faults_of_steps(leaks, false, kStore, 2).faults.find("memory is not given back") != std::string::npos);
  const auto pairs = reversal_pairs(12);
  MemoryFaultsRun run(pairs, kStore);
  const auto before = trained_state(run.parameters);
  run.parameters.second_moment().rows(3, 4).fill(1);
  CHECK_FALSE(same_bits(before, trained_state(run.parameters)));
}

}  // namespace libtrain::testing
