#include "libtrain/memory_plan.h"

#include <algorithm>
#include <cmath>
#include <limits>

#include "libtrain/memory_source.h"

namespace libtrain {
namespace {

constexpr int64_t kPairsLookedAt = 1'000'000;
constexpr int64_t kLeastMargin = 16 << 20;
/// Probes grow by this factor up to half of the largest batch, from the first with at most so many tokens.
constexpr int64_t kGrowth = 2, kFirstTokens = 512;

// ---- Probes ---------------------------------------------------------------------------------------------------------------

int64_t tokens_of(const BatchSize& size) { return size.source_tokens + size.target_tokens; }

/// A part of a batch with the same lengths.
BatchSize part_of(const BatchSize& size, double share) {
  const auto part = [share](int64_t whole) { return int64_t(std::ceil(double(whole) * share)); };
  return {part(size.pairs), part(size.source_tokens), part(size.target_tokens), size.longest_source,
          size.longest_target};
}

/// Lengths of `count` sequences, kEos counted: one as long as the longest, which workspace depends on, the others alike.
std::vector<int64_t> lengths_of(int64_t count, int64_t tokens, int64_t longest) {
  tokens = std::clamp(tokens, count, count * longest);  // the rest is tail
  const int64_t first = count > 1 ? std::min(longest, tokens - (count - 1)) : tokens, others = count - 1;
  std::vector<int64_t> lengths{first};
  for (int64_t i = 0; i < others; ++i)
    lengths.push_back((tokens - first) * (i + 1) / others - (tokens - first) * i / others);
  return lengths;
}

Batch make_probe(const BatchSize& size, const BatchOptions& options) {
  const auto sources = lengths_of(size.pairs, size.source_tokens, size.longest_source);
  const auto targets = lengths_of(size.pairs, size.target_tokens, size.longest_target);
  std::vector<Pair> pairs;
  for (size_t i = 0; i < sources.size(); ++i)
    pairs.push_back(
        {std::vector<int32_t>(size_t(sources[i] - 1), kUnk), std::vector<int32_t>(size_t(targets[i] - 1), kUnk)});
  return make_batch(std::span<const Pair>(pairs), options);
}

/// What forward and backward of a batch of this size were seen to need, in bytes.
struct Measured {
  double source_tokens, target_tokens, activations, batch;
  double tokens() const { return source_tokens + target_tokens; }
};

/// What they would need of any other.
struct Line {
  double constant = 0, per_source_token = 0, per_target_token = 0, batch_per_token = 0;

  double activations(double source_tokens, double target_tokens) const {
    return constant + per_source_token * source_tokens + per_target_token * target_tokens;
  }
  double activations(const BatchSize& size) const {
    return activations(double(size.source_tokens), double(size.target_tokens));
  }
};

class Prober {
 public:
  using Loss = std::function<TokenLoss(const Batch&)>;

  Prober(const Parameters& parameters, const BatchOptions& options, const Loss& loss, double available)
      : parameters_(parameters), options_(options), loss_(loss), available_(available) {}
  ~Prober() {
    parameters_.clear_gradients();
    reset_peak(parameters_.device());
  }
  Prober(const Prober&) = delete;

  Line line_for(const BatchSize& largest) const;

 private:
  Measured measure(const BatchSize& size) const;
  std::vector<Measured> climb(const BatchSize& largest) const;

  const Parameters& parameters_;
  const BatchOptions& options_;
  const Loss& loss_;
  double available_;  // for activations
};

Measured Prober::measure(const BatchSize& size) const {
  const auto stats = [this] { return allocator_stats(parameters_.device()); };
  const int64_t before = stats().bytes_in_use;
  const Batch batch = make_probe(size, options_);
  const int64_t with_batch = stats().bytes_in_use;
  reset_peak(parameters_.device());
  {
    Tape tape;
    const TokenLoss loss = loss_(batch);
    if (loss.sum.requires_grad()) tape.backward(loss.sum);
  }
  return {double(batch.source.tokens()), double(batch.target.tokens()), double(stats().peak_bytes_in_use - with_batch),
          double(with_batch - before)};
}

/// Activations of a batch of so many tokens, on the line through two others.
double extrapolate(const Measured& low, const Measured& high, double tokens) {
  const double more = high.tokens() - low.tokens(), slope = more > 0 ? (high.activations - low.activations) / more : 0;
  return high.activations + slope * (tokens - high.tokens());
}

/// Growing parts of the batch, at least two, and none that by those before would not fit.
std::vector<Measured> Prober::climb(const BatchSize& largest) const {
  const auto tokens = double(tokens_of(largest));
  double share = 0.5 / kGrowth;
  while (share * tokens > double(kFirstTokens)) share /= kGrowth;
  std::vector<Measured> seen{measure(part_of(largest, share))};
  for (share *= kGrowth; share <= 0.5; share *= kGrowth) {
    if (seen.size() > 1 && extrapolate(seen[seen.size() - 2], seen.back(), share * tokens) > available_) break;
    seen.push_back(measure(part_of(largest, share)));
  }
  return seen;
}

/// The two largest probes tell the slope; a smaller one with half of the tokens on a side, how much of it belongs to which.
Line Prober::line_for(const BatchSize& largest) const {
  const std::vector<Measured> seen = climb(largest);
  const Measured &low = seen[seen.size() - 2], &high = seen.back();
  const auto weight_of = [&](int64_t BatchSize::*tokens, double Measured::*measured) {
    BatchSize half = part_of(largest, low.tokens() / double(tokens_of(largest)));
    half.*tokens /= 2;
    const Measured with_half = measure(half);
    const double fewer = low.*measured - with_half.*measured;
    return fewer > 0 ? std::max(0.0, (low.activations - with_half.activations) / fewer) : 0;
  };
  double source = weight_of(&BatchSize::source_tokens, &Measured::source_tokens);
  double target = weight_of(&BatchSize::target_tokens, &Measured::target_tokens);
  if (source + target <= 0) source = target = 1;
  const auto weighted = [&](const Measured& m) { return source * m.source_tokens + target * m.target_tokens; };
  const double more = weighted(high) - weighted(low);
  const double slope = more > 0 ? (high.activations - low.activations) / more : 0;
  return {high.activations - slope * weighted(high), slope * source, slope * target, high.batch / high.tokens()};
}

// ---- From probes to a plan --------------------------------------------------------------------------------------------------

std::vector<BatchSize> sizes_of_run(BucketedBatches& batches, int64_t epochs) {
  std::vector<BatchSize> all;
  int64_t pairs = 0;
  for (int64_t epoch = 0; epoch == 0 || (epoch < epochs && pairs < kPairsLookedAt); ++epoch) {
    batches.begin_epoch(epoch);
    for (const BatchSize& size : batches.sizes()) {
      pairs += size.pairs;
      all.push_back(size);
    }
  }
  return all;
}

template <class Cost> BatchSize costliest(const std::vector<BatchSize>& sizes, const Cost& cost) {
  return *std::ranges::max_element(sizes, [&](const BatchSize& a, const BatchSize& b) { return cost(a) < cost(b); });
}

/// On the CPU the one that is trained on and those built ahead of it.
int64_t batches_at_a_time(const BucketedBatchesOptions& options) {
  return options.batch.device == Device::kCpu ? 1 + options.prefetch : 1;
}

std::string in_mib(int64_t bytes) { return format_message("{:.1f}", double(bytes) * 0x1p-20); }

std::vector<std::pair<MemoryUse, int64_t>> parts_of(const MemoryPlan& plan) {
  return {{MemoryUse::kWeights, plan.weights},         {MemoryUse::kGradients, plan.gradients},
          {MemoryUse::kOptimizer, plan.optimizer},     {MemoryUse::kOther, plan.other},
          {MemoryUse::kActivations, plan.activations}, {MemoryUse::kBatches, plan.batches}};
}

std::string describe_size(const BatchSize& size) {
  return format_message("{} pairs, {} source and {} target tokens", size.pairs, size.source_tokens, size.target_tokens);
}

/// Solves the plan for the tokens on a side.
int64_t solve_for_tokens(const MemoryPlan& plan, const Line& line, int64_t batches) {
  const double most = std::min(double(plan.available) / 1.1, double(plan.available - kLeastMargin));
  const double per_token = line.per_source_token + line.per_target_token + 2 * line.batch_per_token * double(batches);
  const double room = most - double(plan.weights + plan.gradients + plan.optimizer + plan.other) - line.constant;
  const int64_t tokens = per_token > 0 && room > 0 ? int64_t(std::min(room / per_token, 1e15)) : 0;
  return tokens >= plan.longest ? tokens : 0;
}

}  // namespace

int64_t available_memory(Device device) {
  const int64_t in_use = allocator_stats(device).bytes_in_use;
  return in_use + std::min(detail::free_memory(device), std::numeric_limits<int64_t>::max() - in_use);
}

MemoryPlan plan_memory(Parameters& parameters, BucketedBatches& batches,
                       const std::function<TokenLoss(const Batch&)>& loss, const MemoryPlanOptions& options) {
  LIBTRAIN_CHECK(options.epochs >= 1 && options.limit >= 0,
                 "[memory_plan] epochs must be >= 1 and limit >= 0 (0: what is free), got {} and {}", options.epochs,
                 options.limit);
  LIBTRAIN_CHECK(options.moments >= 0 && options.moments <= 2,
                 "[memory_plan] moments must be 0, 1 or 2, got {}; adam() keeps 2", options.moments);
  for (const auto& slot : parameters.slots())
    LIBTRAIN_CHECK(!slot.value.has_grad(),
                   "[memory_plan] the gradient of {} waits for an update, which probing would overwrite; plan before "
                   "training, or clear_gradients()",
                   slot.name);
  parameters.shrink_to_fit();
  const Device device = parameters.device();
  const std::vector<BatchSize> sizes = sizes_of_run(batches, options.epochs);
  release_cached(device);
  const AllocatorStats stats = allocator_stats(device);

  MemoryPlan plan{.device = device};
  plan.weights = stats.bytes_for(MemoryUse::kWeights);
  plan.gradients = stats.bytes_for(MemoryUse::kGradients);
  plan.optimizer = stats.bytes_for(MemoryUse::kOptimizer);
  plan.other = stats.bytes_in_use - plan.weights - plan.gradients - plan.optimizer;
  const int64_t moments_to_come = std::max<int64_t>(0, options.moments - parameters.moments()) *
                                  parameters.flat_size() * size_of(parameters.dtype());
  plan.optimizer += moments_to_come;
  for (const BatchSize& size : sizes) plan.longest = std::max({plan.longest, size.longest_source, size.longest_target});
  plan.available = available_memory(device);
  if (options.limit > 0) plan.available = std::min(plan.available, options.limit);

  const auto room = double(plan.available - stats.bytes_in_use - moments_to_come);
  const Line line = Prober(parameters, batches.options().batch, loss, room).line_for(costliest(sizes, tokens_of));
  release_cached(device);
  plan.largest = costliest(sizes, [&](const BatchSize& size) { return line.activations(size); });
  plan.activations = std::llround(std::max(0.0, line.activations(plan.largest)));
  const int64_t at_a_time = batches_at_a_time(batches.options());
  plan.batches = at_a_time * std::llround(line.batch_per_token * double(tokens_of(plan.largest)));
  plan.tokens_that_fit = solve_for_tokens(plan, line, at_a_time);
  return plan;
}

int64_t MemoryPlan::margin() const { return std::max(peak() / 10, kLeastMargin); }

void MemoryPlan::check(const std::string& setting) const {
  if (fits()) return;
  const int64_t whatever_the_batch = weights + gradients + optimizer + other;
  const std::string remedy =
      whatever_the_batch > available
          ? format_message("use a smaller model: {} MiB of it do not depend on the batch", in_mib(whatever_the_batch))
      : tokens_that_fit > 0
          ? format_message("use smaller batches: {} {}", setting, tokens_that_fit)
          : format_message(
                "even a limit of the {} tokens of its longest sequence is not sure to fit: use a smaller model "
                "or shorter texts",
                longest);
  throw OutOfMemory(
      format_message("[memory_plan] the largest batch ({}) needs more {} memory than the {} MiB available: {}; {}",
                     describe_size(largest), name(device), in_mib(available), summary(), remedy));
}

std::string MemoryPlan::str() const {
  std::string text;
  const auto line = [&](const std::string& name, int64_t bytes, const std::string& remark) {
    text += format_message("{}{}{:>10} MiB{}\n", name, std::string(16 - name.size(), ' '), in_mib(bytes), remark);
  };
  for (const auto& [use, bytes] : parts_of(*this))
    line(name(use), bytes, use == MemoryUse::kActivations ? "  " + describe_size(largest) : "");
  line("peak", peak(), format_message("  of {} MiB available", in_mib(available)));
  return text;
}

std::string MemoryPlan::summary() const {
  std::string text;
  for (const auto& [use, bytes] : parts_of(*this))
    if (in_mib(bytes) != "0.0") text += format_message("{}{} {}", text.empty() ? "" : " + ", name(use), in_mib(bytes));
  return format_message("{} = {} MiB peak", text, in_mib(peak()));
}

}  // namespace libtrain
