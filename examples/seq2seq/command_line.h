/// From the words of a command line to Options.
#pragma once
#include "examples/seq2seq/options.h"

namespace seq2seq {

/// What the command line asks for.
enum class Command { kHelp, kTrain, kEvaluate, kPredict };

/// Parses the command line. For kHelp the text is printed to stdout. Throws libtrain::InvalidArgument for whatever is wrong with it; unknown
/// flags and commands come with a suggestion.
Command parse_command_line(int argc, const char* const* argv, Options& options);

/// A word as a shell reads it back.
std::string quoted(const std::string& word);

}  // namespace seq2seq
