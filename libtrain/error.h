/// What libtrain throws, and how its messages are built.
///
/// Every failure a caller can cause or meet is an exception; the library never prints to stdout, never exits, and is usable
/// after a throw. A message reads "[where] what was expected, got what", followed by the remedy when there is one.
#pragma once
#include <concepts>
#include <cstdint>
#include <initializer_list>
#include <span>
#include <stdexcept>
#include <string>
#include <string_view>
#include <variant>

namespace libtrain {

/// Base of all exceptions of the library.
struct Error : std::runtime_error {
  using std::runtime_error::runtime_error;
};
/// A call that breaks its documented contract: shapes, dtypes, devices, options, token ids.
struct InvalidArgument : Error {
  using Error::Error;
};
/// Text or pairs that cannot be used; names file and line.
struct DataError : Error {
  using Error::Error;
};
/// A checkpoint or weight file that is damaged, foreign or does not fit; names file and field.
struct CheckpointError : Error {
  using Error::Error;
};
/// A file operation refused by the system; names path, operation and reason.
struct IoError : Error {
  using Error::Error;
};
/// Memory that could not be had; names device, bytes asked and bytes in use.
struct OutOfMemory : Error {
  using Error::Error;
};
/// A device that is missing, not built for, or failing.
struct DeviceError : Error {
  using Error::Error;
};

/// Training whose loss or gradient is no longer finite; names update, operation and parameter.
struct Diverged : Error {
  using Error::Error;
};

/// One argument of a message. Type-erased, so that the formatting library stays out of users' builds (and out of nvcc).
/// Texts are not copied: they live until the message has been made.
using MessagePart = std::variant<int64_t, uint64_t, double, std::string_view>;
/// Widened to the alternative of its kind.
inline MessagePart message_part(std::signed_integral auto value) { return int64_t(value); }
inline MessagePart message_part(std::unsigned_integral auto value) { return uint64_t(value); }
inline MessagePart message_part(std::floating_point auto value) { return double(value); }
inline MessagePart message_part(std::string_view value) { return value; }

/// Replaces each {} of `format` by the next part, in fmt's syntax.
std::string format_parts(std::string_view format, std::initializer_list<MessagePart> parts);

/// format_message("[add] {} rows", 3) == "[add] 3 rows"
template <class... Parts> std::string format_message(std::string_view format, const Parts&... parts) {
  return format_parts(format, {message_part(parts)...});
}

/// Throws InvalidArgument with the message format_parts() makes. In the library, not in every place that checks.
[[noreturn]] void refuse_parts(std::string_view format, std::initializer_list<MessagePart> parts);

/// Throws InvalidArgument with the message format_message() makes.
template <class... Parts> [[noreturn]] void refuse(std::string_view format, const Parts&... parts) {
  refuse_parts(format, {message_part(parts)...});
}

/// The value, or for what is no number one that prints as "nan": for what people read, where "-nan" would only raise a question.
double without_sign_of_nan(double value);

/// " (did you mean 'x'?)" for the candidate closest to `word`, or "" when none is close.
std::string did_you_mean(std::string_view word, std::span<const std::string> candidates);

}  // namespace libtrain

/// Throws InvalidArgument with a formatted message unless `condition` holds.
#define LIBTRAIN_CHECK(condition, ...) \
  do {                                 \
    if (!(condition)) [[unlikely]]     \
      ::libtrain::refuse(__VA_ARGS__); \
  } while (0)
