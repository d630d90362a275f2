#include "examples/seq2seq/trained_model.h"

#include <algorithm>
#include <filesystem>
#include <nlohmann/json.hpp>

#include "examples/seq2seq/json_values.h"
#include "libtrain/io/checkpoint_folder.h"

namespace seq2seq {
namespace {

using Json = nlohmann::ordered_json;
using libtrain::CheckpointError;
using libtrain::format_message;

const char* kind_name(libtrain::TokenKind kind) { return kind == libtrain::TokenKind::kChars ? "chars" : "words"; }

[[noreturn]] void refuse(const std::string& place, const std::string& field, const std::string& complaint) {
  throw CheckpointError(
      format_message("[{}] field '{}': {}; use a checkpoint that this seq2seq has written", place, field, complaint));
}

/// A checkpoint's program part, and where it was read.
struct Program {
  Json json;
  std::string place;

  Program(const std::string& text, const std::string& where) : json(Json::parse(text, nullptr, false)), place(where) {
    if (!json.is_object() || !json.contains("options") || !json.contains("source") || !json.contains("target"))
      refuse(place, "program", "expected options, source and target, got none");
  }

  /// Calls read(part); whatever does not fit becomes a CheckpointError that names the part.
  template <class Read> auto read(const char* name, const Read& read) const {
    try {
      return read(json.at(name));
    } catch (const nlohmann::json::exception& error) {
      refuse(place, format_message("program/{}", name), error.what());
    } catch (const libtrain::InvalidArgument& error) {
      refuse(place, format_message("program/{}", name), error.what());
    }
  }
};

struct Side {
  libtrain::TokenKind kind;
  libtrain::Vocabulary vocabulary;
};

Side side(const Program& program, const char* name) {
  return program.read(name, [&](const Json& json) {
    return Side{token_kind(name, json.at("tokens").get<std::string>()),
                libtrain::Vocabulary(json.at("vocabulary").get<std::vector<std::string>>())};
  });
}

libtrain::ParametersOptions store_options(const Options& options) {
  return {.mixed_precision = options.precision == "bf16",
          .device = device_of(options),
          .seed = uint64_t(options.seed),
          .average = options.average_decay > 0};
}

}  // namespace

std::string program_json(const Options& options, const Codec& codec, const DataId& data,
                         const Validations& validations) {
  return Json{{"options", Json::parse(to_json(options))},
              {"source", {{"tokens", kind_name(codec.source_kind)}, {"vocabulary", codec.source.tokens()}}},
              {"target",
               {{"tokens", kind_name(codec.target_kind)},
                {"longest", codec.longest_target},
                {"vocabulary", codec.target.tokens()}}},
              {"data", {{"pairs", data.pairs}, {"xxh3_128", data.hash}}},
              {"validations", {{"last", validations.last}, {"without_gain", validations.without_gain}}}}
      .dump();
}

Codec codec_from_json(const std::string& text, const std::string& place) {
  const Program program(text, place);
  Side source = side(program, "source"), target = side(program, "target");
  const auto longest = program.read("target", [](const Json& part) { return whole_number(part.at("longest")); });
  return {source.kind, target.kind, std::move(source.vocabulary), std::move(target.vocabulary), longest};
}

DataId data_id_from_json(const std::string& text, const std::string& place) {
  return Program(text, place).read("data", [](const Json& json) {
    return DataId{whole_number(json.at("pairs")), json.at("xxh3_128").get<std::string>()};
  });
}

Validations validations_from_json(const std::string& text, const std::string& place) {
  const Program program(text, place);
  if (!program.json.contains("validations")) return {};
  return program.read("validations", [](const Json& json) {
    return Validations{whole_number(json.at("last")), whole_number(json.at("without_gain"))};
  });
}

std::string options_json(const std::string& text, const std::string& place) {
  return Program(text, place).json["options"].dump();
}

TrainedModel::TrainedModel(const Options& o, const Codec& c)
    : options(o),
      codec(c),
      parameters(store_options(o)),
      transformer(parameters, model_options(o, c.source.size(), c.target.size())) {}

std::string newest_good_checkpoint(const std::string& folder) {
  return libtrain::newest_checkpoint(folder, [](const std::string& reason) {
    std::fprintf(stderr, "warning: %s; passed over for an older checkpoint\n", reason.c_str());
  });
}

std::vector<libtrain::Checkpoint> scored_checkpoints(const std::string& folder) {
  std::vector<libtrain::Checkpoint> scored;
  for (const std::string& path : libtrain::complete_checkpoints(folder)) {
    try {
      libtrain::Checkpoint checkpoint = libtrain::read_checkpoint(path);
      if (checkpoint.score) scored.push_back(std::move(checkpoint));
    } catch (const libtrain::Error&) {  // nothing is known of it
    }
  }
  std::ranges::stable_sort(scored, {}, [](const libtrain::Checkpoint& checkpoint) { return *checkpoint.score; });
  return scored;
}

std::string checkpoint_to_use(const Options& options) {
  const std::string& folder = options.model;
  std::error_code ignored;
  const bool is_one = std::filesystem::exists(folder + "/manifest.json", ignored);
  if (!options.best) return is_one ? folder : newest_good_checkpoint(folder);
  LIBTRAIN_CHECK(
      !is_one, "--best chooses among the checkpoints of a run, and --model {} is one checkpoint; leave it out", folder);
  const auto scored = scored_checkpoints(folder);
  if (scored.empty())
    throw CheckpointError(
        format_message("[{}] holds no checkpoint with a loss of validation, by which --best chooses; train with "
                       "--valid, or leave it out",
                       folder));
  return scored.front().path;
}

std::unique_ptr<TrainedModel> TrainedModel::load(const Options& given) {
  const libtrain::Checkpoint checkpoint = libtrain::read_checkpoint(checkpoint_to_use(given));
  Options options = given;
  update_from_json(options, options_json(checkpoint.program, checkpoint.path));
  if (given.given.contains("test")) options.test = given.test;
  if (given.given.contains("cmudict")) options.cmudict = given.cmudict;
  auto model = std::make_unique<TrainedModel>(options, codec_from_json(checkpoint.program, checkpoint.path));
  if (options.average_decay > 0)  // which is in the optimizer's file
    libtrain::load_checkpoint(checkpoint.path, model->parameters);
  else
    libtrain::load_checkpoint_weights(checkpoint.path, model->parameters);
  return model;
}

}  // namespace seq2seq
