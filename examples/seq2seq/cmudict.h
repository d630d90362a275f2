/// The CMU pronouncing dictionary as training data for grapheme-to-phoneme: reading, cleaning, splitting.
///
/// A line of the file is a word and its phones, separated by spaces: "abbey AE B IY". Further pronunciations stand on
/// lines of their own, with a marker: "a(2) EY". The cleaning rules, in this order:
///   1. The marker "(number)" at the end of a word is dropped; the line is one more pronunciation of that word.
///   2. Only words of the letters a-z and apostrophes with at least one letter stay. Words with digits, periods,
///   hyphens,
///      underscores, capitals or anything else are dropped, with their phones unread: they are abbreviations ("a.m."),
///      letter names ("b.") and compounds ("cease-fire"), 1,208 lines of the committed file.
///   3. A pronunciation that its word already has is dropped.
///   4. The remaining pronunciations are all kept, in file order: as separate pairs in training, as several references
///   of one
///      word at evaluation. Words stay in the order of their first line.
/// A phone is one or two of the letters A-Z; the stress digits of other editions of the dictionary are refused.
///
/// Words are split by hash, so that all pronunciations of a word are on one side and a word keeps its side when the
/// dictionary changes. Nothing but the bytes of the word enters: neither platform, order nor seed.
#pragma once
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace seq2seq {

/// A word and its pronunciations, each of them phones separated by one space ("AE B IY"), distinct, at least one.
struct Entry {
  std::string word;
  std::vector<std::string> pronunciations;
};

/// Reads and cleans a dictionary. Throws libtrain::DataError with "[path:line]" for whatever
/// libtrain::for_each_text_line refuses, a word without phones and a phone that is none, with "[path]" when no entry is
/// left.
std::vector<Entry> read_cmudict(const std::string& path);

enum class Split { kTrain, kValid, kTest };

/// FNV-1a in 64 bits over the bytes of `word`, then the finaliser of MurmurHash3 (two multiply and xor-shift rounds)
/// because the last letter of a word hardly reaches the high bits of FNV alone. Sources: Fowler, Noll, Vo, Eastlake,
/// The FNV Non-Cryptographic Hash Algorithm; Appleby, MurmurHash3 (fmix64).
uint64_t word_hash(std::string_view word);

/// word_hash(word) modulo 100: 0 to 4 is test (5 %), 5 and 6 valid (2 %), all else train.
Split split_of(std::string_view word);

}  // namespace seq2seq
