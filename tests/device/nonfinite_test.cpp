/// What is not finite, and memory that runs out, on a CUDA device: as on the CPU, though the host hears of it late.
#include "libtrain/nonfinite.h"

#include "catch.h"
#include "data/temporary_file.h"
#include "train/memory_faults.h"

namespace libtrain::testing {
namespace {

const ParametersOptions kStore{.device = Device::kCuda, .seed = 5, .average = true};

/// One epoch of batches that know their number, some of which give a loss that is NaN. Asks the device for nothing.
class PoisonedRun : public BatchSource<Batch> {
 public:
  PoisonedRun(int64_t accumulate, std::vector<int64_t> bad, int64_t throws_at = -1)
      : bad_(std::move(bad)),
        throws_at_(throws_at),
        pairs_(reversal_pairs(48)),
        batches_(pairs_, {.pairs = 4, .batch = {.device = Device::kCuda}}),
        parameters(kStore),
        model(parameters, toy_options(0.1f)),
        loop(parameters, *this, [this](const Batch& batch) { return loss(batch); },
             {.accumulate = accumulate, .clip_norm = 1, .average_decay = 0.5}) {
    loop.on_step([this](const StepReport& report) { losses.push_back(report.loss); });
    loop.on_nonfinite([this](const NonFiniteReport& report) { reports.push_back(report); });
  }
  int64_t begin_epoch(int64_t epoch) override { return batches_.begin_epoch(epoch); }
  Batch get(int64_t index) override {
    if (index == throws_at_ && !std::exchange(thrown_, true)) throw DataError("planned");
    ++gets;
    index_ = index;
    return batches_.get(index);
  }

 private:
  TokenLoss loss(const Batch& batch) const {
    const TokenLoss loss = model.loss(batch);
    if (std::ranges::find(bad_, index_) == bad_.end()) return loss;
    return {scale(loss.sum, kNotFinite[0]), loss.count};
  }

  std::vector<int64_t> bad_;
  int64_t throws_at_, index_ = 0;
  bool thrown_ = false;
  std::vector<Pair> pairs_;
  BucketedBatches batches_;

 public:
  Parameters parameters;
  Transformer model;
  TrainLoop loop;
  int64_t gets = 0;
  std::vector<double> losses;
  std::vector<NonFiniteReport> reports;
};

void check_same(const PoisonedRun& run, const PoisonedRun& expected) {
  CHECK(same_bits(trained_state(run.parameters), trained_state(expected.parameters)));
  REQUIRE(run.reports.size() == expected.reports.size());
  for (size_t i = 0; i < run.reports.size(); ++i) CHECK(run.reports[i].str() == expected.reports[i].str());
  CHECK(run.parameters.step().updates == expected.parameters.step().updates);
  CHECK(run.parameters.step().skipped_updates == expected.parameters.step().skipped_updates);
}

bool same_numbers(const std::vector<double>& a, const std::vector<double>& b) {
  return a.size() == b.size() && std::memcmp(a.data(), b.data(), a.size() * sizeof(double)) == 0;
}

}  // namespace

TEST_CASE("device nonfinite: NaN and infinities are counted as on the CPU", "[device][nonfinite]") {
  check_counting(Device::kCuda, 1, {1, 31, 4097, 20'003});
}

TEST_CASE("device nonfinite: values of a step are kept from the weights, and their operation is named", "[nonfinite]") {
  const auto points = InjectedRun::points(kStore, 0);
  REQUIRE(points.size() > 60);
  for (size_t i = 0; i < points.size(); i += 7) {  // the CPU tries them all
    const double value = kNotFinite[i % 3];
    INFO(points[i].str() << " = " << value);
    CHECK(fault_after(points[i], value, kStore, Extent::kMiddleElement) == "");
  }
}

TEST_CASE("device nonfinite: what was enqueued behind a bad update is done again, with the same bits", "[nonfinite]") {
  const std::vector<int64_t> bad = {3, 6, 11};  // the last is of the last update
  const int64_t accumulate = GENERATE(1, 2);
  PoisonedRun ahead(accumulate, bad), waits(accumulate, bad), throws(accumulate, bad, 7 + accumulate);
  ahead.loop.run();
  do waits.loop.request_checkpoint();  // so that every step is waited for
  while (waits.loop.step());
  REQUIRE(ahead.reports.size() == 3);
  CHECK(ahead.reports[0].batch == 4 - accumulate);
  CHECK(ahead.reports[0].operation->name == "scale");
  CHECK(ahead.parameters.step().updates == 12 / accumulate - 3);
  CHECK(ahead.gets > waits.gets);  // it was ahead
  CHECK(ahead.parameters.step().skipped_updates == 3);
  check_same(ahead, waits);
  CHECK(same_numbers(ahead.losses, waits.losses));
  CHECK_THROWS_AS(throws.loop.run(), DataError);  // behind a bad update that the host has not seen
  throws.loop.run();
  check_same(throws, ahead);
}

TEST_CASE("device memory faults: any allocation that fails leaves everything as it was", "[memory]") {
  const auto check = [](const MemoryFaults& result, int64_t least) {
    CHECK(result.faults == "");
    CHECK(result.failures >= least);
  };
  const bool forever = GENERATE(false, true);
  INFO((forever ? "from one on" : "once"));
  check(faults_of_steps(fail_allocations, forever, kStore, 2), 50);
  check(faults_of_adding(fail_allocations, forever, kStore), 20);
  check(faults_of_batches(fail_allocations, forever, Device::kCuda), 5);
  const test::TemporaryFile place("");
  check(faults_of_checkpoints(fail_allocations, forever, kStore, place.folder()), 5);
}

}  // namespace libtrain::testing
