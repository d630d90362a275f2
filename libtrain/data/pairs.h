/// Pairs of source and target text from a tab-separated file, and the form in which they are trained on.
///
///   auto pairs = read_pairs("train.tsv", {.target_tokens = TokenKind::kWords});   // "abbey<TAB>AE B IY" a line
///
/// Every failure of a file is a DataError that begins with "[path:line]" (or "[path]") and ends with a remedy.
#pragma once
#include <cstdint>
#include <cstdio>
#include <functional>
#include <string>
#include <string_view>
#include <vector>

#include "libtrain/data/vocabulary.h"

namespace libtrain {

/// One training example as token ids, without kBos and kEos: those are added where batches are made.
struct Pair {
  std::vector<int32_t> source, target;  // make_batch() refuses kPad, kBos and kEos in them
};

/// One pair of texts and the line of the file it stands in, counted from 1.
struct TextPair {
  std::string source, target;  // UTF-8, neither of them empty
  int64_t line = 0;            // blank lines count
};

/// What read_pairs accepts.
struct PairOptions {
  /// How the two sides are cut into tokens, as far as max_length is concerned: the texts themselves are returned uncut.
  TokenKind source_tokens = TokenKind::kChars;
  TokenKind target_tokens = TokenKind::kChars;  // likewise
  /// The most tokens on either side, kBos and kEos not counted; 0: no limit. A longer pair is an error, never cut
  /// short: the model has positions for so many tokens, and the memory of a step grows with them.
  int64_t max_length = 256;
  /// The most bytes in a line. It bounds the memory that reading takes when the file is no text at all.
  int64_t max_line_bytes = 1 << 20;
};

/// Reads one "source<TAB>target" pair a line, in file order; any UTF-8 without NUL bytes. Several lines may have the
/// same source. A UTF-8 byte order mark at the start of the file and a carriage return at the end of a line are
/// dropped. Lines that are empty or nothing but spaces are skipped; their number is stored in `blank_lines` when that
/// is given.
///
/// DataError: the file cannot be opened or read, or is a directory; no pair in it; a line without a tab or with more
/// than one; a side that is empty or nothing but spaces; a line that for_each_text_line refuses; a pair longer than
/// max_length.
std::vector<TextPair> read_pairs(const std::string& path, const PairOptions& options = {},
                                 int64_t* blank_lines = nullptr);

/// Calls `use(line, number)` for every line of a UTF-8 text file, numbered from 1, without its line end; the view is
/// valid during the call only. Drops byte order mark and carriage returns as read_pairs does. One line is held at a
/// time.
///
/// DataError: the file cannot be opened or read, or is a directory; a line of more than max_line_bytes bytes, with a
/// NUL byte, or with bytes that are not UTF-8 (the message gives the offset of the first in its line). InvalidArgument: a
/// negative max_line_bytes.
void for_each_text_line(const std::string& path, int64_t max_line_bytes,
                        const std::function<void(std::string_view line, int64_t number)>& use);

/// The same for a file that is open already, such as stdin, up to its end; messages call it `name`.
void for_each_text_line(std::FILE* file, const std::string& name, int64_t max_line_bytes,
                        const std::function<void(std::string_view line, int64_t number)>& use);

}  // namespace libtrain
