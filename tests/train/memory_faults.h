/// Every allocation of a piece of work fails, one at a time: once, or from then on. What must hold: an exception says so, nothing leaks, and
/// with the memory back the work gives the same bits as undisturbed.
#pragma once
#include <functional>

#include "libtrain/io/checkpoint_folder.h"
#include "train/injection.h"

namespace libtrain::testing {

/// How allocations are made to fail: number `first` (the next one is 0) and `count` - 1 behind it. arm(0, 0): none. Returns
/// whether any has failed since the last call.
using ArmFaults = std::function<bool(int64_t first, int64_t count)>;

constexpr int64_t kForever = int64_t(1) << 40;

/// What is done while allocations fail.
struct Work {
  std::function<void()> attempt;
  std::function<void(int64_t k)> after;  // attempt() threw: looks at what is left
  std::function<void()> before = [] {};  // makes every attempt's start
  std::function<void()> undo = {};       // attempt() did without what failed, and is to be done again
};

/// Calls attempt() with allocation 0 failing, then with 1 failing… until it asks for no more; returns how many were made to fail.
inline int64_t for_every_allocation(const ArmFaults& arm, bool forever, const Work& work) {
  for (int64_t k = 0;; ++k) {
    work.before();
    bool thrown = false;
    arm(k, forever ? kForever : 1);
    try {
      work.attempt();
    } catch (const OutOfMemory&) {
      thrown = true;
    } catch (const std::bad_alloc&) {
      thrown = true;
    }
    const bool failed = arm(0, 0);
    if (thrown)
      work.after(k);
    else if (!failed)
      return k;
    else if (work.undo)
      work.undo();
    else
      throw Error(format_message("allocation {} failed, and nothing was thrown", k));
  }
}

inline int64_t bytes_in_use(Device device) { return allocator_stats(device).bytes_in_use; }

/// What is under way on the device is done.
inline void settle(Device device) {
  if (device == Device::kCuda) cuda::synchronize();
}

struct MemoryFaultsRun : ToyRun {
  MemoryFaultsRun(std::span<const Pair> pairs, const ParametersOptions& store,
                  const std::optional<Optimizer>& optimizer = {})
      : ToyRun(pairs,
               {.epochs = 2,
                .accumulate = 2,
                .clip_norm = 1,
                .clip_value = 10,
                .optimizer = optimizer,
                .average_decay = 0.5},
               0.1f, store, {.pairs = 4, .batches_per_bucket = 2, .prefetch = 0}) {
    parameters.set_group([](const auto& slot) { return slot.name.ends_with("bias"); }, {.rate = 2});
    losses.reserve(9);  // the handler needs no memory
    loop.on_epoch([this](const EpochReport& report) { losses.push_back(report.loss); });
  }
  std::vector<double> losses;
};

/// What was found wrong, and how many allocations were made to fail.
struct MemoryFaults {
  std::string faults;
  int64_t failures = 0;

  void expect(bool holds, const std::string& what) {
    if (!holds && faults.size() < 1000) faults += (faults.empty() ? "" : "; ") + what;
  }
};

/// All of a run, between two steps.
class Snapshot {
 public:
  explicit Snapshot(const ToyRun& run) : state_(run.loop.state()), random_(run.parameters.random()) {
    for (const Tensor& buffer : buffers(run)) copies_.push_back(buffer.clone());
  }
  void restore(ToyRun& run) const {
    const auto all = buffers(run);
    for (size_t i = 0; i < all.size(); ++i) all[i].copy_from(copies_[i]);
    run.parameters.set_random(random_);
    run.parameters.round_values();
    run.loop.restore(state_);
  }

 private:
  static std::vector<Tensor> buffers(const ToyRun& run) {
    const Parameters& p = run.parameters;
    return {p.values(), p.gradients(), p.first_moment(), p.second_moment(), p.average(), p.step_state()};
  }
  TrainState state_;
  RandomState random_;
  std::vector<Tensor> copies_;
};

/// A run of `steps` steps of two epochs of 3 mini-batches (so of 2 updates), in which every allocation of every step but the first fails.
inline MemoryFaults faults_of_steps(const ArmFaults& arm, bool forever, const ParametersOptions& store,
                                    int64_t steps = 6, const std::optional<Optimizer>& optimizer = {}) {
  const auto pairs = reversal_pairs(12);
  MemoryFaultsRun calm(pairs, store, optimizer), run(pairs, store, optimizer);
  MemoryFaults result;
  run.loop.step();
  calm.loop.step();
  for (int64_t step = 2; step <= steps; ++step) {
    calm.loop.step();
    const Snapshot start(run);
    const size_t told = run.losses.size();
    int64_t in_use = 0;
    std::vector<float> state;
    const auto same_as_calm = [&] {
      result.expect(same_bits(trained_state(run.parameters), trained_state(calm.parameters)),
                    format_message("step {} is not that of an undisturbed run", step));
    };
    const auto before = [&] {
      while (run.loop.state().steps < step - 1) run.loop.step();  // a failure goes back to where the open update began
      settle(store.device);
      in_use = bytes_in_use(store.device);
      state = trained_state(run.parameters);
    };
    const auto after = [&](int64_t k) {
      const std::string where = format_message("step {}, allocation {}", step, k);
      settle(store.device);
      result.expect(bytes_in_use(store.device) <= in_use, where + ": memory is not given back");
      result.expect(same_bits(trained_state(run.parameters), state), where + ": weights, moments or average changed");
    };
    const auto undo = [&] {
      same_as_calm();
      start.restore(run);
      run.losses.resize(told);
    };
    result.failures += for_every_allocation(arm, forever, {[&] { run.loop.step(); }, after, before, undo});
    same_as_calm();
  }
  while (run.loop.step()) calm.loop.step();
  calm.loop.step();
  result.expect(same_bits(trained_state(run.parameters), trained_state(calm.parameters)), "the runs end differently");
  result.expect(run.losses == calm.losses, "other losses of epochs were told");
  return result;
}

/// A store, its model and a loop are made while every allocation fails.
inline MemoryFaults faults_of_construction(const ArmFaults& arm, bool forever, const ParametersOptions& store) {
  const auto pairs = reversal_pairs(12);
  MemoryFaultsRun calm(pairs, store);
  MemoryFaults result;
  std::unique_ptr<MemoryFaultsRun> run;
  const int64_t in_use = bytes_in_use(store.device);
  const auto after = [&](int64_t k) {
    result.expect(bytes_in_use(store.device) == in_use, format_message("allocation {}: memory is not given back", k));
  };
  result.failures =
      for_every_allocation(arm, forever, {[&] { run = std::make_unique<MemoryFaultsRun>(pairs, store); }, after});
  while (run->loop.step()) calm.loop.step();
  calm.loop.step();
  result.expect(same_bits(trained_state(run->parameters), trained_state(calm.parameters)), "it trains differently");
  return result;
}

/// A store grows while every allocation fails: it has the parameter, or is as it was.
inline MemoryFaults faults_of_adding(const ArmFaults& arm, bool forever, const ParametersOptions& store) {
  Parameters calm(store), parameters(store);
  MemoryFaults result;
  for (const int64_t size : {70, 900, 3, 20'000}) {
    const std::string name = format_message("w{}", size);
    const auto state = trained_state(parameters);
    const int64_t in_use = bytes_in_use(store.device);
    const auto after = [&](int64_t k) {
      const std::string where = format_message("{}, allocation {}", name, k);
      result.expect(!parameters.contains(name), where + ": registered, but not made");
      result.expect(parameters.flat_size() == int64_t(state.size()) / (store.average ? 4 : 3), where + ": larger");
      result.expect(same_bits(trained_state(parameters), state), where + ": what was there has changed");
      result.expect(bytes_in_use(store.device) >= in_use, where + ": a buffer is gone");
    };
    result.failures +=
        for_every_allocation(arm, forever, {[&] { parameters.add(name, {size}, init::normal(0, 1)); }, after});
    calm.add(name, {size}, init::normal(0, 1));
    result.expect(same_bits(trained_state(parameters), trained_state(calm)), name + " is not that of another store");
  }
  return result;
}

/// A checkpoint is saved and loaded within an accumulation while every allocation fails.
inline MemoryFaults faults_of_checkpoints(const ArmFaults& arm, bool forever, const ParametersOptions& store,
                                          const std::string& folder) {
  const auto pairs = reversal_pairs(12);
  MemoryFaultsRun run(pairs, store), loaded(pairs, store);
  MemoryFaults result;
  while (run.loop.state().steps < 4) run.loop.step();
  settle(store.device);
  int64_t in_use = bytes_in_use(store.device);
  const auto memory_is_back = [&](const char* what, int64_t k) {
    settle(store.device);
    result.expect(bytes_in_use(store.device) == in_use,
                  format_message("{}, allocation {}: memory is not given back", what, k));
  };
  const auto save = [&] { save_checkpoint(folder, run.parameters, run.loop.state(), "{}", {.keep = 2}); };
  result.failures += for_every_allocation(arm, forever, {save, [&](int64_t k) { memory_is_back("save", k); }});
  const auto saved = complete_checkpoints(folder);
  result.expect(saved.size() == 1, "not one checkpoint");
  TrainState state;
  const auto load = [&] { state = load_checkpoint(newest_checkpoint(folder, {}), loaded.parameters).state; };
  result.failures += for_every_allocation(arm, forever, {load, [&](int64_t k) { memory_is_back("load", k); }});
  loaded.loop.restore(state);
  run.loop.run();
  loaded.loop.run();
  result.expect(same_bits(trained_state(run.parameters), trained_state(loaded.parameters)), "it goes on differently");
  return result;
}

/// A batch is made while every allocation fails.
inline MemoryFaults faults_of_batches(const ArmFaults& arm, bool forever, Device device) {
  const auto pairs = reversal_pairs(12);
  MemoryFaults result;
  const int64_t in_use = bytes_in_use(device);
  const Batch expected = make_batch(std::span<const Pair>(pairs), {.device = device});
  const int64_t with_one = bytes_in_use(device);
  Batch batch;
  const auto after = [&](int64_t k) {
    settle(device);
    result.expect(bytes_in_use(device) == with_one, format_message("allocation {}: memory is not given back", k));
  };
  result.failures = for_every_allocation(
      arm, forever, {[&] { batch = make_batch(std::span<const Pair>(pairs), {.device = device}); }, after});
  result.expect(with_one > in_use, "a batch has no memory");
  result.expect(batch.target_out.to_vector<int32_t>() == expected.target_out.to_vector<int32_t>(), "another batch");
  return result;
}

}  // namespace libtrain::testing
