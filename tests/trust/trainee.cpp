/// A short run that may be killed at any time: trainee FOLDER [--die-at N] [--forget-random]
/// Goes on from the newest checkpoint in FOLDER that loads, saves after every third step, and prints the hash of weights and moments at the end.
/// --die-at N: kills itself, as `kill -9` would, just before file operation N. --forget-random: a planted fault.
#include <signal.h>

#include <cstdio>
#include <cstring>

#include "libtrain/io/checkpoint_folder.h"
#include "libtrain/io/hash.h"
#include "train/toy.h"

namespace libtrain::testing {
namespace {

/// Counts the operations of a process; one of them is its last.
class MortalFiles : public FileSystem {
 public:
  explicit MortalFiles(int64_t last) : last_(last) {}

  bool make_directory(const std::string& path) override { return count(), real_.make_directory(path); }
  std::unique_ptr<OutputFile> create_file(const std::string& path) override {
    count();
    return std::make_unique<File>(*this, real_.create_file(path));
  }
  void sync_directory(const std::string& path) override { count(), real_.sync_directory(path); }
  void rename(const std::string& from, const std::string& to) override { count(), real_.rename(from, to); }
  void remove_file(const std::string& path) override { count(), real_.remove_file(path); }
  void remove_directory(const std::string& path) override { count(), real_.remove_directory(path); }
  int64_t operations() const { return operations_; }

 private:
  struct File : OutputFile {
    File(MortalFiles& all, std::unique_ptr<OutputFile> file) : files(all), real(std::move(file)) {}
    void write(std::span<const std::byte> bytes) override {
      if (files.operations_ == files.last_) real->write(bytes.first(bytes.size() / 3));
      files.count(), real->write(bytes);
    }
    void sync() override { files.count(), real->sync(); }
    void close() override { files.count(), real->close(); }
    MortalFiles& files;
    std::unique_ptr<OutputFile> real;
  };
  void count() {
    if (operations_++ == last_) raise(SIGKILL);
  }

  FileSystem& real_ = real_file_system();
  int64_t operations_ = 0, last_;
};

std::string hash_of(const Tensor& tensor) {
  const auto values = tensor.to_vector<float>();
  return xxh3_128_hex(std::as_bytes(std::span(values)));
}

int train(const std::string& folder, int64_t die_at, bool forget_random) {
  const auto pairs = reversal_pairs(48);
  ToyRun run(pairs, {.epochs = 3, .accumulate = 2, .clip_norm = 1, .schedule = cosine_schedule(2, 9)}, 0.2f);
  MortalFiles files(die_at);
  if (!complete_checkpoints(folder).empty()) {
    const auto tell = [](const std::string& reason) { std::fprintf(stderr, "passed over: %s\n", reason.c_str()); };
    const RandomState start = run.parameters.random();
    run.loop.restore(load_checkpoint(newest_checkpoint(folder, tell), run.parameters).state);
    if (forget_random) run.parameters.set_random({start.seed + 1, start.step});
  }
  const auto save = [&] {
    save_checkpoint(folder, run.parameters, run.loop.state(), "{}", {.keep = 2, .files = files});
  };
  while (run.loop.step())
    if (run.loop.state().steps % 3 == 0) save();
  save();  // what a kill has left unfinished behind the last checkpoint goes too
  std::printf("%s %s operations %ld\n", hash_of(run.parameters.values()).c_str(),
              hash_of(run.parameters.second_moment()).c_str(), long(files.operations()));
  return 0;
}

}  // namespace
}  // namespace libtrain::testing

int main(int argc, char** argv) {
  int64_t die_at = -1;
  bool forget_random = false;
  for (int i = 2; i < argc; ++i) {
    if (!std::strcmp(argv[i], "--die-at") && i + 1 < argc) die_at = std::atoll(argv[++i]);
    if (!std::strcmp(argv[i], "--forget-random")) forget_random = true;
  }
  return libtrain::testing::train(argv[1], die_at, forget_random);
}
