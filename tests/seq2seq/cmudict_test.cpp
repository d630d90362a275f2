#include "examples/seq2seq/cmudict.h"

#include <algorithm>
#include <map>
#include <set>

#include "libtrain/data/vocabulary.h"
#include "libtrain/error.h"
#include "tests/catch.h"
#include "tests/data/temporary_file.h"

namespace seq2seq {
namespace {
using libtrain::DataError;
using libtrain::test::message_of;
using libtrain::test::TemporaryFile;
using Strings = std::vector<std::string>;

// The committed dictionary, read once for all tests.
const std::vector<Entry>& dictionary() {
  static const auto entries = read_cmudict(LIBTRAIN_SOURCE_DIR "/examples/seq2seq/data/cmudict-en-us.dict");
  return entries;
}

std::string message_for(std::string_view bytes) {
  const TemporaryFile file(bytes);
  std::string message = message_of<DataError>([&] { read_cmudict(file.path()); });
  if (const size_t at = message.find(file.path()); at != message.npos) message.replace(at, file.path().size(), "PATH");
  return message;
}

struct Counts {
  int64_t words = 0, pronunciations = 0;
};

TEST_CASE("read_cmudict applies its cleaning rules") {
  const TemporaryFile file(
      "read R EH D\n"
      "'til T IH L\n"
      "a.m. EY EH M\n"  // period
      "read(2) R IY D\n"
      "cease-fire S IY S F AY R\n"  // hyphen
      "abbey AE  B IY \r\n"         // spaces do not matter
      "read(3) R EH D\n"            // a pronunciation that is there
      "c3 S IY TH R IY\n"           // digit
      "Abbey AE B IY\n"             // capital
      "snake_case S N EY K\n"
      "' AH\n"             // no letter
      "smile(x) S M AY\n"  // no number in the marker
      "() AH\n"
      "\xC3\xA9t\xC3\xA9 EY T EY\n"
      ";;; a comment\n"
      "\n"
      "zoo(2) Z UW\n");  // a marker without a first line
  const auto entries = read_cmudict(file.path());
  REQUIRE(entries.size() == 4);
  CHECK(entries[0].word == "read");
  CHECK(entries[0].pronunciations == Strings{"R EH D", "R IY D"});
  CHECK(entries[1].word == "'til");
  CHECK(entries[2].word == "abbey");
  CHECK(entries[2].pronunciations == Strings{"AE B IY"});
  CHECK(entries[3].word == "zoo");
}

TEST_CASE("read_cmudict: errors name file and line") {
  CHECK(message_for("a AH\nabbey\n") ==
        "[PATH:2] expected a word and its phones, got a word alone; add the phones or delete the line");
  CHECK(message_for("a AH\nb B IY1\n") ==
        "[PATH:2] expected phones of one or two letters A-Z, got 'IY1'; use an edition without stress digits");
  CHECK(message_for("a ah\n").find("[PATH:1] expected phones of one or two letters A-Z, got 'ah'") == 0);
  CHECK(message_for("b B1\n").find("got 'B1'") != std::string::npos);
  CHECK(message_for("b BEE\n").find("got 'BEE'") != std::string::npos);
  CHECK(message_for("") ==
        "[PATH] expected a dictionary with lines like \"abbey AE B IY\", got no usable word; check the path");
  CHECK(message_for("b\xFF B\n").find("[PATH:1] expected UTF-8, got byte 0xFF at byte offset 1") == 0);
  CHECK(message_of<DataError>([] { read_cmudict("/nonexistent/dict"); }).find("No such file or directory") !=
        std::string::npos);
}

TEST_CASE("the committed dictionary has the counts of its README") {
  Counts all;
  std::set<std::string> phones, letters;
  for (const auto& entry : dictionary()) {
    ++all.words;
    all.pronunciations += int64_t(entry.pronunciations.size());
    for (const char c : entry.word) letters.insert(std::string(1, c));
    for (const auto& pronunciation : entry.pronunciations)
      for (const auto& phone : libtrain::tokenize(pronunciation, libtrain::TokenKind::kWords)) phones.insert(phone);
  }
  CHECK(all.words == 124804);
  CHECK(all.pronunciations == 133515);
  CHECK(letters.size() == 27);
  CHECK(phones.size() == 39);
}

TEST_CASE("the committed dictionary keeps alternate pronunciations") {
  const auto& entries = dictionary();
  const auto read = std::ranges::find(entries, "read", &Entry::word);
  REQUIRE(read != entries.end());
  CHECK(read->pronunciations == Strings{"R EH D", "R IY D"});
}

TEST_CASE("no word is on two sides, and every side has its exact size") {
  std::map<Split, std::set<std::string>> words;
  std::map<Split, Counts> counts;
  for (const auto& entry : dictionary()) {
    const Split split = split_of(entry.word);
    words[split].insert(entry.word);
    ++counts[split].words;
    counts[split].pronunciations += int64_t(entry.pronunciations.size());
  }
  const auto apart = [&](Split a, Split b) {
    return std::ranges::none_of(words[a], [&](const std::string& word) { return words[b].contains(word); });
  };
  CHECK(apart(Split::kTrain, Split::kTest));
  CHECK(apart(Split::kTrain, Split::kValid));
  CHECK(apart(Split::kValid, Split::kTest));
  for (const auto& [split, set] : words) CHECK(int64_t(set.size()) == counts[split].words);  // one entry a word
  CHECK(counts[Split::kTest].words == 6198);
  CHECK(counts[Split::kValid].words == 2411);
  CHECK(counts[Split::kTrain].words == 116195);
  CHECK(counts[Split::kTest].pronunciations == 6598);
  CHECK(counts[Split::kValid].pronunciations == 2596);
  CHECK(counts[Split::kTrain].pronunciations == 124321);
}

TEST_CASE("word_hash is the same on every platform") {
  CHECK(word_hash("") == 0xEFD01F60BA992926u);
  CHECK(word_hash("a") == 0x82A2A958A9BECE5Bu);
  CHECK(word_hash("abbey") == 0x64A269CB9AC87963u);
}
}  // namespace
}  // namespace seq2seq
