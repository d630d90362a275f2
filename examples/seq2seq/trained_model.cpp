#include "examples/seq2seq/trained_model.h"

#include <filesystem>
#include <nlohmann/json.hpp>

namespace seq2seq {
namespace {

using Json = nlohmann::ordered_json;
using libtrain::CheckpointError;
using libtrain::format_message;

const char* kind_name(libtrain::TokenKind kind) { return kind == libtrain::TokenKind::kChars ? "chars" : "words"; }

Json parse_program(const std::string& program) {
  Json json = Json::parse(program, nullptr, false);
  if (!json.is_object() || !json.contains("options") || !json.contains("source") || !json.contains("target"))
    throw CheckpointError(
        "[checkpoint] field 'program': expected options, source and target; it was not written by seq2seq");
  return json;
}

/// Calls read(part) on a part of `program`; whatever does not fit becomes a CheckpointError that names the part.
template <class Read> auto read_part(const Json& program, const char* name, const Read& read) {
  try {
    return read(program.at(name));
  } catch (const nlohmann::json::exception& error) {
    throw CheckpointError(format_message("[checkpoint] field 'program/{}': {}", name, error.what()));
  } catch (const libtrain::InvalidArgument& error) {
    throw CheckpointError(format_message("[checkpoint] field 'program/{}': {}", name, error.what()));
  }
}

struct Side {
  libtrain::TokenKind kind;
  libtrain::Vocabulary vocabulary;
};

Side side(const Json& program, const char* name) {
  return read_part(program, name, [&](const Json& json) {
    return Side{token_kind(name, json.at("tokens").get<std::string>()),
                libtrain::Vocabulary(json.at("vocabulary").get<std::vector<std::string>>())};
  });
}

libtrain::ParametersOptions store_options(const Options& options) {
  return {.mixed_precision = options.precision == "bf16", .device = device_of(options), .seed = uint64_t(options.seed)};
}

}  // namespace

std::string program_json(const Options& options, const Codec& codec, const DataId& data) {
  return Json{{"options", Json::parse(to_json(options))},
              {"source", {{"tokens", kind_name(codec.source_kind)}, {"vocabulary", codec.source.tokens()}}},
              {"target",
               {{"tokens", kind_name(codec.target_kind)},
                {"longest", codec.longest_target},
                {"vocabulary", codec.target.tokens()}}},
              {"data", {{"pairs", data.pairs}, {"xxh3_128", data.hash}}}}
      .dump();
}

Codec codec_from_json(const std::string& program) {
  const Json json = parse_program(program);
  Side source = side(json, "source"), target = side(json, "target");
  const auto longest = read_part(json, "target", [](const Json& part) { return part.at("longest").get<int64_t>(); });
  return {source.kind, target.kind, std::move(source.vocabulary), std::move(target.vocabulary), longest};
}

DataId data_id_from_json(const std::string& program) {
  return read_part(parse_program(program), "data", [](const Json& json) {
    return DataId{json.at("pairs").get<int64_t>(), json.at("xxh3_128").get<std::string>()};
  });
}

std::string options_json(const std::string& program) { return parse_program(program)["options"].dump(); }

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

std::string find_checkpoint(const std::string& folder) {
  if (std::filesystem::exists(folder + "/manifest.json")) return folder;
  return newest_good_checkpoint(folder);
}

std::unique_ptr<TrainedModel> TrainedModel::load(const std::string& folder, const Options& given) {
  const libtrain::Checkpoint checkpoint = libtrain::read_checkpoint(find_checkpoint(folder));
  Options options = given;
  update_from_json(options, options_json(checkpoint.program));
  if (given.given.contains("test")) options.test = given.test;
  if (given.given.contains("cmudict")) options.cmudict = given.cmudict;
  auto model = std::make_unique<TrainedModel>(options, codec_from_json(checkpoint.program));
  libtrain::load_checkpoint(checkpoint.path, model->parameters);
  return model;
}

}  // namespace seq2seq
