/// Batches whose ids are spoilt where only kernels see them: each is noted with operation, row and value, and the process trains on.
#include <cstdlib>

#include "catch.h"
#include "train/toy.h"

namespace libtrain::testing {
namespace {

struct Field {
  int32_t op;
  Tensor Batch::*ids;
  int64_t Batch::*tokens;
};
const std::vector<Field> kFields{{BadIndex::kEmbedding, &Batch::source_ids, &Batch::source_tokens},
                                 {BadIndex::kEmbedding, &Batch::target_in, &Batch::target_tokens},
                                 {BadIndex::kCrossEntropy, &Batch::target_out, &Batch::target_tokens}};

int64_t campaign_length() {
  const char* asked = std::getenv("LIBTRAIN_BAD_BATCHES");
  return asked ? std::atoll(asked) : 60;
}

std::vector<double> trained() {
  const auto pairs = reversal_pairs(16);
  ToyRun run(pairs, {.epochs = 2, .clip_norm = 1}, 0.1f, {.device = Device::kCuda, .seed = 5});
  CHECK(run.loop.run());
  return run.weights();
}

int32_t bad_id(std::mt19937_64& random) {
  constexpr int32_t kNear[] = {-1, INT32_MIN, INT32_MAX, int32_t(kToyVocab), -100};
  if (random() % 2) return kNear[random() % std::size(kNear)];
  const auto any = int32_t(uint32_t(random()));
  return any >= 0 && any < kToyVocab ? -1 - any : any;
}

}  // namespace

TEST_CASE("device: bad batches that the host cannot see are noted with row and value, and training goes on",
          "[device]") {
  const auto calm = trained();
  std::mt19937_64 random(1);
  const auto pairs = reversal_pairs(64);
  Parameters parameters({.device = Device::kCuda, .seed = 5});
  const Transformer model(parameters, toy_options());
  cuda::take_bad_index();
  for (int64_t i = 0, count = campaign_length(); i < count; ++i) {
    const size_t first = random() % 60, rows = 1 + random() % 4;
    Batch batch = make_batch(std::span(pairs).subspan(first, rows), {.capacity_multiple = 8}).to(Device::kCuda);
    model.loss(batch);  // whole, as a control: nothing is noted
    REQUIRE(cuda::take_bad_index().op == BadIndex::kNone);

    const Field field = kFields[random() % kFields.size()];
    const auto row = int64_t(random() % uint64_t(batch.*field.tokens));
    const int32_t id = bad_id(random);
    INFO("batch " << i << ": id " << id << " at row " << row << " of operation " << field.op);
    (batch.*field.ids).rows(row, row + 1).copy_from(Tensor::from<int32_t>({id}, {1}));
    const TokenLoss loss = model.loss(batch);
    const BadIndex found = cuda::take_bad_index();
    REQUIRE(std::tuple(found.op, found.row, found.value, found.limit) == std::tuple(field.op, row, id, kToyVocab));
    REQUIRE(std::isfinite(loss.sum.item()));
  }
  CHECK(trained() == calm);
}

}  // namespace libtrain::testing
