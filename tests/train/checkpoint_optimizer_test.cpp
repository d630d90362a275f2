/// Whose moments a checkpoint holds: named, refused by any other optimizer, and no more of them than that one keeps.
#include "catch.h"
#include "data/temporary_file.h"
#include "libtrain/io/checkpoint_folder.h"
#include "libtrain/io/seal.h"
#include "toy.h"

namespace libtrain::testing {
namespace {

using test::message_of;
using test::slurp;
using test::spill;
using test::TemporaryFile;

const TrainOptions kAdam{.epochs = 2, .clip_norm = 1, .adam = {.learning_rate = 5e-3}};

TrainOptions sgd_with(double momentum, double rate = 0.3) {
  return {.epochs = 2, .clip_norm = 1, .optimizer = sgd({.learning_rate = rate, .momentum = momentum})};
}

/// A run of five steps and its checkpoint.
struct Saved : ToyRun {
  Saved(std::span<const Pair> pairs, const TrainOptions& options, const std::string& folder)
      : ToyRun(pairs, options, 0.2f) {
    for (int step = 0; step < 5; ++step) loop.step();
    parameters.set_group([](const auto& slot) { return slot.value.rank() < 2; }, {.rate = 0.5, .decay = 0});
    path = save_checkpoint(folder, parameters, loop.state());
  }
  std::string path;
};

std::string manifest_of(const std::string& path) { return slurp(path + "/" + kManifestFile); }

/// Takes the member "optimizer" out of a manifest, which older ones have not.
void forget_name(const std::string& path) {
  std::string text = manifest_of(path);
  const size_t begin = text.find(",\n \"optimizer\": {"), end = text.find("\n }", begin) + 3;
  REQUIRE(begin != std::string::npos);
  text.erase(begin, end - begin);
  text.erase(text.rfind(",\n \"xxh3_128\""));
  spill(path + "/" + kManifestFile, sealed(text + "\n}"));
}

/// Everything of a store that a checkpoint brings.
std::vector<double> contents_of(const Parameters& parameters) {
  std::vector<double> all;
  const auto append = [&](const Tensor& tensor) {
    const auto values = tensor.cast(DType::f64).to_vector<double>();
    all.insert(all.end(), values.begin(), values.end());
  };
  append(parameters.values());
  for (int64_t i = 0; i < parameters.moments(); ++i) append(parameters.moment(i));
  append(parameters.step_state());
  return all;
}

double sum_of(const Tensor& tensor) {
  double sum = 0;
  for (const double value : tensor.cast(DType::f64).to_vector<double>()) sum += std::abs(value);
  return sum;
}

}  // namespace

TEST_CASE("checkpoint: another optimizer is refused, both are named, and nothing is changed", "[checkpoint]") {
  const auto pairs = reversal_pairs(64);
  const TemporaryFile place("");
  const Saved adam_run(pairs, kAdam, place.folder() + "/adam"), sgd_run(pairs, sgd_with(0.9), place.folder() + "/sgd");
  CHECK(read_checkpoint(adam_run.path).optimizer == "adam");
  CHECK(verify_checkpoint(sgd_run.path).optimizer == "sgd");
  struct Case {
    const Saved& from;
    TrainOptions options;
    std::string there, here;
  };
  for (const Case& c : {Case{adam_run, sgd_with(0.9), "adam", "sgd"}, Case{adam_run, sgd_with(0), "adam", "sgd"},
                        Case{sgd_run, kAdam, "sgd", "adam"}}) {
    INFO(c.there << " to " << c.here);
    ToyRun run(pairs, c.options);
    const auto before = contents_of(run.parameters);
    CHECK(
        message_of<CheckpointError>([&] { load_checkpoint(c.from.path, run.parameters); }) ==
        format_message("[{}] holds the state of the optimizer {}, from which {} cannot go on; go on with {}, or begin "
                       "with {} from its weights alone: load_weights() of its weights.safetensors",
                       c.from.path, c.there, c.here, c.there, c.here));
    CHECK(contents_of(run.parameters) == before);
    CHECK(run.loop.run());

    // The other way round: loaded first, and then a loop that does not fit.
    Parameters parameters({.seed = 5});
    const Transformer model(parameters, toy_options());
    load_checkpoint(c.from.path, parameters);
    const auto loaded = contents_of(parameters);
    BucketedBatches batches(pairs, {.pairs = 8});
    const auto loss = [&](const Batch& batch) { return model.loss(batch); };
    CHECK(
        message_of<InvalidArgument>([&] { TrainLoop(parameters, batches, loss, c.options); }) ==
        format_message("[optimizer] the moments of this store are those of {}, from which {} cannot go on; go on with "
                       "{}, or call forget_optimizer() to begin with {} from these weights",
                       c.there, c.here, c.there, c.here));
    CHECK(contents_of(parameters) == loaded);
    parameters.forget_optimizer();
    CHECK(parameters.moments() == 0);
    CHECK(parameters.step().updates == 0);
    TrainLoop anew(parameters, batches, loss, c.options);
    CHECK(anew.run());
  }
}

TEST_CASE("checkpoint: an optimizer of the program's own goes on under its own name alone", "[checkpoint]") {
  const auto pairs = reversal_pairs(64);
  const TemporaryFile place("");
  TrainOptions plain = sgd_with(0.9), lion = plain;
  plain.optimizer->info = {};
  lion.optimizer->info = {.name = "lion", .moments = 1};
  const Saved run(pairs, lion, place.folder());
  ToyRun same(pairs, lion), unnamed(pairs, plain);
  same.loop.restore(load_checkpoint(run.path, same.parameters).state);
  CHECK(message_of<CheckpointError>([&] {
          load_checkpoint(run.path, unnamed.parameters);
        }).find("of the optimizer lion, from which own cannot go on") != std::string::npos);
}

TEST_CASE("checkpoint: a resumed run may have another rate, schedule, momentum and other groups", "[checkpoint]") {
  const auto pairs = reversal_pairs(64);
  const TemporaryFile place("");
  const Saved with(pairs, sgd_with(0.9), place.folder() + "/with"),
      without(pairs, sgd_with(0), place.folder() + "/without");
  TrainOptions slower = sgd_with(0.5, 0.01);
  slower.schedule = linear_schedule(2, 20);
  ToyRun moves(pairs, slower), stands(pairs, sgd_with(0)), starts(pairs, sgd_with(0.9));
  const auto velocity = with.parameters.first_moment().to_vector<float>();

  moves.loop.restore(load_checkpoint(with.path, moves.parameters).state);
  CHECK(moves.parameters.first_moment().to_vector<float>() == velocity);
  CHECK(moves.parameters.moments() == 1);

  stands.loop.restore(load_checkpoint(with.path, stands.parameters).state);
  CHECK(stands.parameters.moments() == 0);

  starts.parameters.first_moment().fill(7);
  starts.loop.restore(load_checkpoint(without.path, starts.parameters).state);
  CHECK(starts.parameters.moments() == 1);
  CHECK(sum_of(starts.parameters.first_moment()) == 0);
  for (ToyRun* run : {&moves, &stands, &starts}) CHECK(run->loop.run());
}

TEST_CASE("checkpoint: older ones, which name no optimizer and always have both moments, load", "[checkpoint]") {
  const auto pairs = reversal_pairs(64);
  const TemporaryFile place("");
  Saved run(pairs, kAdam, place.folder());
  const auto group = [](ToyRun& other) {
    other.parameters.set_group([](const auto& slot) { return slot.value.rank() < 2; }, {.rate = 0.5, .decay = 0});
  };
  forget_name(run.path);
  CHECK(verify_checkpoint(run.path).optimizer.empty());
  ToyRun resumed(pairs, kAdam, 0.2f), other(pairs, sgd_with(0.9), 0.2f);
  group(resumed);
  resumed.loop.restore(load_checkpoint(run.path, resumed.parameters).state);
  CHECK(contents_of(resumed.parameters) == contents_of(run.parameters));
  resumed.loop.run();
  run.loop.run();
  CHECK(resumed.weights() == run.weights());

  other.loop.restore(load_checkpoint(run.path, other.parameters).state);
  CHECK(other.parameters.moments() == 1);
  CHECK(sum_of(other.parameters.first_moment()) > 0);

  Parameters first({.seed = 5});
  const Transformer model(first, toy_options());
  load_checkpoint(run.path, first);
  CHECK(first.moments() == 2);
  CHECK_FALSE(first.optimizer());
}

TEST_CASE("checkpoint: the manifest tells hyper-parameters and groups", "[checkpoint]") {
  const auto pairs = reversal_pairs(64);
  const TemporaryFile place("");
  ToyRun run(pairs, kAdam);
  run.parameters.set_group([](const auto& slot) { return slot.name == "encoder.norm.weight"; }, {.decay = 0});
  run.parameters.set_group([](const auto& slot) { return slot.name.starts_with("decoder.norm"); }, {.rate = 0.5});
  run.parameters.freeze([](const auto& slot) { return slot.name == "encoder.norm.bias"; });
  std::string text = manifest_of(save_checkpoint(place.folder(), run.parameters, run.loop.state()));
  std::erase_if(text, [](char c) { return c == ' ' || c == '\n'; });
  CHECK(text.find(
            R"("optimizer":{"name":"adam","options":{"learning_rate":0.005,"beta1":0.9,"beta2":0.98,)"
            R"("epsilon":1e-09,"weight_decay":0.0},"groups":[)"
            R"({"rate":1.0,"decay":0.0,"frozen":false,"parameters":["encoder.norm.weight"]},)"
            R"({"rate":1.0,"decay":1.0,"frozen":true,"parameters":["encoder.norm.bias"]},)"
            R"({"rate":0.5,"decay":1.0,"frozen":false,"parameters":["decoder.norm.weight","decoder.norm.bias"]}]})") !=
        std::string::npos);
}

TEST_CASE("checkpoint: a store that nobody trains has no moments, nor has what is saved of it", "[checkpoint]") {
  const TemporaryFile place("");
  Parameters parameters, loaded;
  for (Parameters* each : {&parameters, &loaded}) each->add("w", {300}, init::constant(1));
  loaded.first_moment().fill(3);
  const std::string path = save_checkpoint(place.folder(), parameters, {});
  CHECK(parameters.moments() == 0);
  CHECK(manifest_of(path).find("moment") == std::string::npos);
  CHECK(manifest_of(path).find("\"optimizer\": {\n  \"name\"") == std::string::npos);
  load_checkpoint(path, loaded);
  CHECK(sum_of(loaded.first_moment()) == 0);
  Parameters another({.average = true});  // which the checkpoint has not: found behind the weights, which fit
  another.add("w", {300}, init::constant(1));
  loaded.keep_moments(2);
  const std::string both = save_checkpoint(place.folder() + "/both", loaded, {});
  CHECK_THROWS_AS(load_checkpoint(both, another), CheckpointError);
  CHECK(another.moments() == 0);
}

TEST_CASE("train loop: an optimizer has the moments that it keeps, and no others", "[train][allocator]") {
  const auto pairs = reversal_pairs(8);
  const auto used = [](MemoryUse use) { return allocator_stats(Device::kCpu).bytes_for(use); };
  struct Case {
    TrainOptions options;
    int64_t moments;
  };
  for (const auto& [options, moments] : {Case{kAdam, 2}, Case{sgd_with(0.9), 1}, Case{sgd_with(0), 0}}) {
    INFO(moments << " moments");
    const int64_t before = used(MemoryUse::kOptimizer), weights = used(MemoryUse::kWeights);
    ToyRun run(pairs, options);
    const auto taken = [&] { return used(MemoryUse::kOptimizer) - before; };
    const int64_t of_values = used(MemoryUse::kWeights) - weights;
    REQUIRE(of_values > 0);
    CHECK(taken() == moments * of_values);
    run.loop.run();
    CHECK(taken() == moments * of_values);
    CHECK(run.parameters.moments() == moments);
  }
}

}  // namespace libtrain::testing
