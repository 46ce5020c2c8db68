#pragma once

/// @file
/// SafeTensorsStream: a safetensors file whose tensors are produced, written and freed one after
/// the other. The header is known first, because names, dtypes and shapes are; the bytes may then
/// come in any order and from several threads.
///
///     kvant::io::SafeTensorsStream out("out.safetensors", {{"w", kvant::DType::int8, {2, 3}}});
///     out.write("w", 0, bytes);
///     out.commit();

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <map>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "kvant/config.hpp"
#include "kvant/io/tensor.hpp"

namespace kvant::io {

/// Laid out as SafeTensorsWriter does: wide dtypes first, then by name. The file has a
/// temporary name until commit(), and disappears without it.
class KVANT_API SafeTensorsStream {
 public:
  /// Writes the header and claims the disk space.
  /// @param metadata "__metadata__", written in the order of its keys
  /// @param shown the file's name in messages; empty: the path
  /// @throws Error as SafeTensorsWriter::add (names, dtypes), out_of_range (header above the
  ///         format's 100,000,000 bytes), io
  SafeTensorsStream(const std::filesystem::path& path, std::vector<TensorSpec> tensors,
                    const std::map<std::string, std::string>& metadata = {},
                    const std::string& shown = {});
  ~SafeTensorsStream();
  SafeTensorsStream(SafeTensorsStream&&) noexcept;
  SafeTensorsStream& operator=(SafeTensorsStream&&) noexcept;

  /// Writes part of a tensor, from its byte `offset` on. Any thread may call; each byte of the file
  /// is to be written exactly once.
  /// @throws Error invalid_argument (no such tensor), out_of_range (beyond its end), io
  void write(std::string_view name, std::uint64_t offset, std::span<const std::byte> bytes);
  /// See AtomicFile::close_between_writes.
  void close_between_writes();
  /// Makes the file durable and gives it its name.
  /// @throws Error invalid_argument: fewer or more bytes were written than the tensors have; io
  void commit();

 private:
  struct State;
  [[nodiscard]] State& state() const;
  std::unique_ptr<State> state_;
};

}  // namespace kvant::io
