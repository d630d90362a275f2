/// Mistakes with data, weights and checkpoints on disk, as a program meets them through the API.
#include <fstream>

#include "data/temporary_file.h"
#include "libtrain/io/safetensors.h"
#include "mistakes/mistakes.h"

namespace libtrain::testing {
namespace {

using test::TemporaryFile;

/// What `use` does with a file that holds these bytes.
std::function<void()> file_with(const std::string& bytes, const std::function<void(const std::string& path)>& use) {
  return [bytes, use] {
    const TemporaryFile file(bytes);
    use(file.path());
  };
}

std::function<void()> safetensors_with(const std::string& header, const std::string& data = "") {
  std::string length(8, '\0');
  for (size_t i = 0; i < 8; ++i) length[i] = char(uint64_t(header.size()) >> (8 * i));
  return file_with(length + header + data, [](const std::string& path) { SafetensorsFile::read(path); });
}

void write_one(const TensorEntry& entry) { write_safetensors(std::vector<TensorEntry>{entry}); }

/// Weights of one model, loaded into another.
std::function<void()> weights_into(const Shape& shape, const std::string& name) {
  return [=] {
    const TemporaryFile file("");
    Parameters from, to;
    from.add("w", {2}, init::constant(0));
    to.add(name, shape, init::constant(0));
    save_weights(file.path(), from);
    load_weights(file.path(), to);
  };
}

const std::vector<std::byte> kEight(8);

std::vector<Mistake> weight_mistakes() {
  constexpr Kind kCheckpoint = Kind::kCheckpointError, kArgument = Kind::kInvalidArgument;
  const char* again = "copy the file again";
  return {
      {"weights of nowhere", kCheckpoint, "is missing or no file", "[/nowhere/w.safetensors]", "check the path",
       [] { load_weights("/nowhere/w.safetensors", Parameters()); }},
      {"weights of another shape", kCheckpoint, "w is F32[2], expected F32[3]", "file.tsv] does not fit this model",
       "with the options it was saved with", weights_into({3}, "w")},
      {"weights under other names", kCheckpoint, "missing v F32[2]; unexpected w F32[2]", "does not fit this model",
       "build the model with the options", weights_into({2}, "v")},
      {"weights of a part of the model", kCheckpoint, "1 differences: missing head.w F32[3]", "does not fit this model",
       "for a part of it, load it into such a model in another store and call Parameters::copy_values()",
       [] {
         const TemporaryFile file("");
         Parameters from, to;
         for (Parameters* each : {&from, &to}) each->add("w", {2}, init::constant(0));
         to.add("head.w", {3}, init::constant(0));
         save_weights(file.path(), from);
         load_weights(file.path(), to);
       }},
      {"a file of a few bytes", kCheckpoint, "expected 8 bytes, got a file of 3", "file.tsv] header length", again,
       file_with("abc", [](const std::string& path) { SafetensorsFile::read(path); })},
      {"a header longer than the file", kCheckpoint, "but only 0 follow", "file.tsv] header length", again,
       file_with(std::string("\x10\0\0\0\0\0\0\0", 8), [](const std::string& path) { SafetensorsFile::read(path); })},
      {"a header longer than any", kCheckpoint, "the limit is 100000000", "header length", again,
       file_with(std::string("\xff\xff\xff\xff\xff\xff\xff\xff", 8),
                 [](const std::string& path) { SafetensorsFile::read(path); })},
      {"weights as torch.save writes them", kCheckpoint, "got a zip archive as torch.save writes it", "header length",
       "write it with safetensors.torch.save_file",
       file_with(std::string("PK\3\4\0\0\x08\x08", 8),
                 [](const std::string& path) { load_weights(path, Parameters()); })},
      {"a header that is no object", kCheckpoint, "begin with '{' (byte 8 of the file)", "file.tsv] header", again,
       safetensors_with("[]")},
      {"a header that breaks off", kCheckpoint, "no JSON (byte 13 of the file)", "file.tsv] header",
       "copy the file again", safetensors_with("{\"w\":")},
      {"a tensor twice", kCheckpoint, "key \"w\" occurs twice", "header", "copy the file again",
       safetensors_with(R"({"w":{"dtype":"F32","shape":[],"data_offsets":[0,4]},"w":{}})", "abcd")},
      {"a dtype of another library", kCheckpoint, "got \"F8_E4M3\"", "tensor 'w'", again,
       safetensors_with(R"({"w":{"dtype":"F8_E4M3","shape":[1],"data_offsets":[0,1]}})", "a")},
      {"a tensor of fewer bytes than its shape", kCheckpoint, "takes 8 bytes, got 4", "tensor 'w'", again,
       safetensors_with(R"({"w":{"dtype":"F32","shape":[2],"data_offsets":[0,4]}})", "abcd")},
      {"a tensor with a hole before it", kCheckpoint, "begins at byte 4 of the data, expected 0: a hole", "tensor 'w'",
       again, safetensors_with(R"({"w":{"dtype":"F32","shape":[1],"data_offsets":[4,8]}})", "abcdefgh")},
      {"a file that is cut short", kCheckpoint, "it is cut short", "file.tsv] data", again,
       safetensors_with(R"({"w":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}})", "ab")},
      {"a tensor that the file does not have", kCheckpoint, "holds no tensor named 'v'", "file.tsv]",
       "names() lists them",
       [] {
         const TemporaryFile file("");
         Parameters parameters;
         parameters.add("w", {2}, init::constant(0));
         save_weights(file.path(), parameters);
         SafetensorsFile::read(file.path()).entry("v");
       }},
      {"writing a tensor of too few bytes", kArgument, "tensor 'w' of dtype F32 does not fit its 8 bytes",
       "[write_safetensors]", "shape, dtype and bytes must agree",
       [] {
         write_one({"w", "F32", {3}, kEight});
       }},
      {"writing two tensors of one name", kArgument, "two tensors are named 'w'", "[write_safetensors]", "rename one",
       [] {
         const TensorEntry entry{"w", "F32", {2}, kEight};
         write_safetensors(std::vector<TensorEntry>{entry, entry});
       }},
      {"writing a name in Latin-1", kArgument, "must be UTF-8", "[write_safetensors] names", "convert them",
       [] {
         write_one({"w\xff", "F32", {2}, kEight});
       }},
      {"saving into a file", Kind::kIoError, "Not a directory", "file.tsv/w.safetensors.tmp-",
       "a part of the path is a file",
       file_with("", [](const std::string& path) { save_weights(path + "/w.safetensors", Parameters()); })},
      {"reading a folder", Kind::kIoError, "Is a directory", "[/tmp] cannot read", "name a file, not a folder",
       [] { SafetensorsFile::read("/tmp"); }},
      {"reading a device", Kind::kIoError, "is no regular file", "[/dev/null]", "not a pipe or a device",
       [] { SafetensorsFile::read("/dev/null"); }},
      {"a path that goes in circles", Kind::kIoError, "Too many levels of symbolic links", "circle] cannot open",
       "choose another place",
       [] {
         const TemporaryFile file("");
         const std::string path = file.folder() + "/circle";
         std::filesystem::create_symlink(path, path);
         SafetensorsFile::read(path);
       }},
  };
}

std::vector<Mistake> checkpoint_mistakes() {
  constexpr Kind kArgument = Kind::kInvalidArgument;
  return {
      {"a program's part that is no object", kArgument, "got [1]", "[save_checkpoint] program",
       "leave it out if there is nothing to keep", [] { save_checkpoint("/nowhere", Parameters(), {}, "[1]"); }},
      {"keeping less than none", kArgument, "got -1", "[save_checkpoint] keep", "0: all",
       [] { save_checkpoint("/nowhere", Parameters(), {}, "{}", {.keep = -1}); }},
      {"another checkpoint of the same step", Kind::kCheckpointError, "another checkpoint of the same step",
       "step-00000000]", "save to another folder",
       [] {
         const TemporaryFile place("");
         Parameters parameters;
         const Tensor w = parameters.add("w", {2}, init::constant(0));
         save_checkpoint(place.folder(), parameters, {});
         w.fill(1);
         save_checkpoint(place.folder(), parameters, {});
       }},
      {"a checkpoint of another model", Kind::kCheckpointError, "w is F32[2], expected F32[5]", "weights.safetensors]",
       "build the model with the options",
       [] {
         const TemporaryFile place("");
         Parameters small, large;
         small.add("w", {2}, init::constant(0));
         large.add("w", {5}, init::constant(0));
         load_checkpoint(save_checkpoint(place.folder(), small, {}), large);
       }},
      {"a checkpoint of another optimizer", Kind::kCheckpointError, "the state of the optimizer adam", "step-00000000]",
       "go on with adam, or begin with sgd from its weights alone",
       [] {
         const TemporaryFile place("");
         Parameters trained, other;
         for (Parameters* each : {&trained, &other}) each->add("w", {2}, init::constant(0));
         trained.set_optimizer(adam({}).info);
         other.set_optimizer(sgd({}).info);
         load_checkpoint(save_checkpoint(place.folder(), trained, {}), other);
       }},
  };
}

std::vector<Mistake> data_mistakes() {
  constexpr Kind kArgument = Kind::kInvalidArgument;
  const std::vector<Pair> pairs{{{4}, {5}}, {{4, 5, 6}, {7}}};
  const auto batches = [pairs](const BucketedBatchesOptions& options) {
    return [pairs, options] { BucketedBatches(std::span<const Pair>(pairs), options); };
  };
  return {
      {"reading pairs of negative length", kArgument, "got -1", "[read_pairs] expected max_length", "0: no limit",
       [] { read_pairs("x", {.max_length = -1}); }},
      {"reading lines of no bytes", kArgument, "got 0", "[read_pairs] expected max_line_bytes", "2^20 is the default",
       [] { read_pairs("x", {.max_line_bytes = 0}); }},
      {"a line longer than asked for", Kind::kDataError, "expected lines of at most 4 bytes", "file.tsv:1]",
       "is this a text file?",
       file_with("abcdef\n",
                 [](const std::string& path) { for_each_text_line(path, 4, [](std::string_view, int64_t) {}); })},
      {"lines of less than no bytes", kArgument, "got -1", "[for_each_text_line] expected max_line_bytes",
       "2^20 is usual",
       file_with("abcdef\n",
                 [](const std::string& path) { for_each_text_line(path, -1, [](std::string_view, int64_t) {}); })},
      {"batches of no pairs", kArgument, "got none", "[batches]", "has the data been read?",
       [] { BucketedBatches({}, {.pairs = 1}); }},
      {"batches without a limit", kArgument, "tokens (0) or pairs (0)", "[batches] a batch needs a limit",
       "pairs = 64 is a start", batches({})},
      {"batches sorted in groups of none", kArgument, "got 0 and 2", "[batches] batches_per_bucket",
       "32 and 2 are the defaults", batches({.pairs = 1, .batches_per_bucket = 0})},
      {"a pair longer than a batch", kArgument, "has 4 tokens, more than the 3", "[batches] pair 1",
       "raise the limit or drop the pair", batches({.tokens = 3})},
      {"a batch of an epoch that was not begun", kArgument, "got 0 of 0", "[batches]",
       "begin_epoch() prepares an epoch",
       [pairs] { BucketedBatches(std::span<const Pair>(pairs), {.pairs = 1}).get(0); }},
  };
}

}  // namespace

std::vector<Mistake> file_mistakes() {
  std::vector<Mistake> all = weight_mistakes();
  for (auto* table : {checkpoint_mistakes, data_mistakes})
    for (Mistake& mistake : table()) all.push_back(std::move(mistake));
  return all;
}

}  // namespace libtrain::testing
