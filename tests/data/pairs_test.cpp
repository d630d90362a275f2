#include "libtrain/data/pairs.h"

#include "libtrain/error.h"
#include "tests/catch.h"
#include "tests/data/temporary_file.h"

namespace libtrain {
namespace {
using test::message_of;
using test::TemporaryFile;

// The message for a file of these bytes, with the path in it replaced by PATH.
std::string message_for(std::string_view bytes, const PairOptions& options = {}) {
  const TemporaryFile file(bytes);
  std::string message = message_of<DataError>([&] { read_pairs(file.path(), options); });
  if (const size_t at = message.find(file.path()); at != message.npos) message.replace(at, file.path().size(), "PATH");
  return message;
}

TEST_CASE("read_pairs reads any UTF-8") {
  const TemporaryFile file("한국어\thanguk\u031A\nひらがな\thiɾaɡana\nmot\tt\u0361ʃ õ\u0301");
  const auto pairs = read_pairs(file.path());
  REQUIRE(pairs.size() == 3);
  CHECK(pairs[0].source == "한국어");
  CHECK(pairs[0].target == "hanguk\u031A");
  CHECK(pairs[1].source == "ひらがな");
  CHECK(pairs[2].target == "t\u0361ʃ õ\u0301");  // the last line has no line end
  CHECK(pairs[2].line == 3);
}

TEST_CASE("read_pairs drops byte order mark and carriage returns") {
  const TemporaryFile file(
      "\xEF\xBB\xBF"
      "a\tb\r\nc\td\r\n\r\n\uFEFFe\tf\r");
  int64_t blank = -1;
  const auto pairs = read_pairs(file.path(), {}, &blank);
  REQUIRE(pairs.size() == 3);
  CHECK(pairs[0].source == "a");
  CHECK(pairs[0].target == "b");
  CHECK(pairs[1].target == "d");
  CHECK(pairs[2].source == "\uFEFFe");  // no mark, but a character of the text
  CHECK(pairs[2].target == "f");
  CHECK(blank == 1);
}

TEST_CASE("read_pairs skips and counts blank lines, and keeps repeated sources in order") {
  const TemporaryFile file("\nread\tR IY D\n   \n\nread\tR EH D\n");
  int64_t blank = -1;
  const auto pairs = read_pairs(file.path(), {}, &blank);
  REQUIRE(pairs.size() == 2);
  CHECK(pairs[0].target == "R IY D");
  CHECK(pairs[0].line == 2);
  CHECK(pairs[1].target == "R EH D");
  CHECK(pairs[1].line == 5);
  CHECK(blank == 3);
}

TEST_CASE("read_pairs: a file that cannot be read") {
  const TemporaryFile file("a\tb\n");
  const std::string missing = file.folder() + "/none.tsv";
  CHECK(message_of<DataError>([&] { read_pairs(missing); }) ==
        "[" + missing +
            "] expected a readable text file, got 'No such file or directory'; check the path and its permissions");
  CHECK(message_of<DataError>([&] { read_pairs(file.folder()); }) ==
        "[" + file.folder() +
            "] expected a readable text file, got 'Is a directory'; check the path and its permissions");
}

TEST_CASE("read_pairs: a file without pairs") {
  CHECK(message_for("") ==
        "[PATH] expected at least one pair, got an empty file; write one source<TAB>target pair a line");
  CHECK(message_for("\n \n") ==
        "[PATH] expected at least one pair, got blank lines only; write one source<TAB>target pair a line");
}

TEST_CASE("read_pairs: tabs and sides") {
  const std::string remedy = "; write one source<TAB>target pair a line";
  CHECK(message_for("a\tb\nabbey AE B IY\n") ==
        "[PATH:2] expected a tab between source and target, got a line without one" + remedy);
  CHECK(message_for("a\tb\n\nc\td\te\n") ==
        "[PATH:3] expected one tab, got more" + remedy + ", each further target of a source on a line of its own");
  CHECK(message_for("\tb\n") == "[PATH:1] expected text on both sides of the tab, got an empty source" + remedy);
  CHECK(message_for("a\t\r\n") == "[PATH:1] expected text on both sides of the tab, got an empty target" + remedy);
  CHECK(message_for("a\t  \n") == "[PATH:1] expected text on both sides of the tab, got an empty target" + remedy);
}

TEST_CASE("read_pairs: bytes that are no text") {
  CHECK(message_for("a\tb\nc\td\xE9 e\n") ==
        "[PATH:2] expected UTF-8, got byte 0xE9 at byte offset 3 of the line; convert the file to UTF-8");
  CHECK(message_for("\xEF\xBB\xBF"
                    "a\t\xFF\n") ==
        "[PATH:1] expected UTF-8, got byte 0xFF at byte offset 5 of the line; convert the file to UTF-8");
  CHECK(message_for(std::string_view("a\tb\n\0c\td\n", 9)) ==
        "[PATH:2] expected text, got a NUL byte at byte offset 0 of the line; convert the file to UTF-8 (UTF-16 and "
        "binary files have such bytes)");
  CHECK(message_for(std::string_view("a\0\t\0b\0\n\0", 8)).find("got a NUL byte at byte offset 1") !=
        std::string::npos);
}

TEST_CASE("read_pairs: a pair longer than the limit names both lengths and the option") {
  const PairOptions options = {.target_tokens = TokenKind::kWords, .max_length = 3};
  CHECK(message_for("abc\tK AE T\nabcd\tK AE\n", options) ==
        "[PATH:2] expected at most 3 tokens a side, got 4 in the source and 2 in the target; shorten the pair, or "
        "raise max_length (--max-length)");
  CHECK(message_for("ab\tK AE T S\n", options).find("got 2 in the source and 4 in the target") != std::string::npos);
  CHECK(message_for("ひら\u3099が\tK  AE  T\n", options) == "no exception");  // tokens count, neither bytes nor spaces
  CHECK(message_for("abcd\tK AE T S\n", {.max_length = 0}) == "no exception");
}

TEST_CASE("read_pairs: a line longer than the limit is refused before it is held") {
  const PairOptions options = {.max_line_bytes = 5};
  CHECK(message_for("ab\tcd\nab\tcde\n", options) ==
        "[PATH:2] expected lines of at most 5 bytes, got a longer one; is this a text file?");
  CHECK(message_of<DataError>([] { read_pairs("/dev/zero"); }).find("at most 1048576 bytes") != std::string::npos);
}

TEST_CASE("read_pairs checks its options") {
  CHECK_THROWS_AS(read_pairs("x", {.max_length = -1}), InvalidArgument);
  CHECK_THROWS_AS(read_pairs("x", {.max_line_bytes = 0}), InvalidArgument);
}

TEST_CASE("for_each_text_line numbers lines and lets exceptions through") {
  const TemporaryFile file("\xEF\xBB\xBFone\r\n\nthree");
  std::vector<std::string> lines;
  for_each_text_line(file.path(), 100, [&](std::string_view line, int64_t number) {
    lines.push_back(std::to_string(number) + ":" + std::string(line));
  });
  CHECK(lines == std::vector<std::string>{"1:one", "2:", "3:three"});
  CHECK_THROWS_AS(for_each_text_line(file.path(), 100, [](std::string_view, int64_t) { throw std::logic_error("x"); }),
                  std::logic_error);
}
}  // namespace
}  // namespace libtrain
