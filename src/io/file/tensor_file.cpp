#include "kvant/io/tensor_file.hpp"

#include <algorithm>
#include <bit>
#include <cstring>
#include <limits>
#include <mutex>
#include <new>
#include <optional>
#include <utility>

#include "io/file/byte_order.hpp"
#include "io/file/file_bytes.hpp"
#include "io/file/open_file.hpp"
#include "io/text/quoting.hpp"
#include "kvant/error.hpp"

namespace kvant::io {

struct TensorFile::State {
  State(std::optional<OpenFile> open, FileBytes file_bytes, std::span<const std::byte> all,
        std::string file_name, Parse parse)
      : opened(std::move(open)),
        memory(std::move(file_bytes)),
        name(std::move(file_name)),
        bytes(all),
        contents(parse(all, name)) {
    by_name.resize(contents.tensors.size());
    for (std::size_t i = 0; i < by_name.size(); ++i) by_name[i] = i;
    std::sort(by_name.begin(), by_name.end(), [this](std::size_t a, std::size_t b) {
      return contents.tensors[a].name < contents.tensors[b].name;
    });
    if constexpr (kTurnsBytes) turn_tensors();
  }

  /// On a big-endian machine: a copy of the file with every tensor in the machine's own order. It
  /// is in memory from here on, whatever the mode.
  void turn_tensors() {
    turned.assign(bytes.begin(), bytes.end());
    for (const TensorInfo& info : contents.tensors) {
      turn_elements(std::span(turned).subspan(static_cast<std::size_t>(info.file_offset),
                                              static_cast<std::size_t>(info.bytes)),
                    turning_bytes(info.dtype));
    }
    bytes = turned;
    opened.reset();
    memory = FileBytes();
  }

  [[nodiscard]] const TensorInfo* find(std::string_view wanted) const noexcept {
    const auto it = std::lower_bound(by_name.begin(), by_name.end(), wanted,
                                     [this](std::size_t index, std::string_view key) {
                                       return contents.tensors[index].name < key;
                                     });
    if (it == by_name.end() || contents.tensors[*it].name != wanted) return nullptr;
    return &contents.tensors[*it];
  }

  [[nodiscard]] const TensorInfo& get(std::string_view wanted) const {
    if (const TensorInfo* info = find(wanted)) return *info;
    std::string message = name + ": there is no tensor " + in_quotes(wanted) + " among " +
                          std::to_string(contents.tensors.size());
    if (!by_name.empty()) {  // the neighbour in the alphabet is often the one that was meant
      const auto it = std::lower_bound(by_name.begin(), by_name.end(), wanted,
                                       [this](std::size_t index, std::string_view key) {
                                         return contents.tensors[index].name < key;
                                       });
      const std::size_t near = it == by_name.end() ? by_name.back() : *it;
      message += " (there is " + in_quotes(contents.tensors[near].name) + ")";
    }
    throw Error(ErrorCode::invalid_argument, message);
  }

  [[nodiscard]] const TensorInfo& get(std::string_view wanted, DType dtype) const {
    const TensorInfo& info = get(wanted);
    if (info.dtype != dtype) {
      throw Error(ErrorCode::invalid_argument, name + ": tensor " + in_quotes(wanted) + " is " +
                                                   describe_tensor(info.dtype, info.shape) +
                                                   ", not " + std::string(to_string(dtype)));
    }
    return info;
  }

  // Offsets were checked against the file, so they fit size_t.
  [[nodiscard]] std::span<const std::byte> bytes_of(const TensorInfo& info) const noexcept {
    return bytes.subspan(static_cast<std::size_t>(info.file_offset),
                         static_cast<std::size_t>(info.bytes));
  }

  std::optional<OpenFile> opened;  ///< of a mapped file, which is also read
  FileBytes memory;
  std::string name;
  std::span<const std::byte> bytes;
  std::vector<std::byte> turned;
  Contents contents;
  std::vector<std::size_t> by_name;
  // Copies of tensors that are not aligned where they are, made on demand. operator new aligns
  // for every element type.
  std::mutex copies_mutex;
  std::map<const TensorInfo*, std::unique_ptr<std::byte[]>> copies;
};

TensorFile::TensorFile(const std::filesystem::path& path, LoadMode mode, Parse parse) {
  std::optional<OpenFile> opened;
  FileBytes memory;
  if (mode == LoadMode::map) {
    opened.emplace(path);
    memory = FileBytes::map(*opened);
  } else {
    memory = FileBytes::read(path);
  }
  const std::span<const std::byte> bytes = memory.bytes();
  state_ =
      std::make_shared<State>(std::move(opened), std::move(memory), bytes, path.string(), parse);
}

TensorFile::TensorFile(std::span<const std::byte> bytes, std::string name, Parse parse)
    : state_(std::make_shared<State>(std::nullopt, FileBytes(), bytes, std::move(name), parse)) {}

void TensorFile::close_descriptor() noexcept {
  state_->opened.reset();
}

const std::string& TensorFile::name() const noexcept {
  return state_->name;
}

std::span<const std::byte> TensorFile::file_bytes() const noexcept {
  return state_->bytes;
}

const std::vector<TensorInfo>& TensorFile::tensors() const noexcept {
  return state_->contents.tensors;
}

const std::map<std::string, std::string>& TensorFile::metadata() const noexcept {
  return state_->contents.metadata;
}

const TensorInfo* TensorFile::find(std::string_view name) const noexcept {
  return state_->find(name);
}

TensorView TensorFile::tensor(std::string_view name) const {
  const TensorInfo& info = state_->get(name);
  return {&info, state_->bytes_of(info)};
}

detail::TensorMatrix TensorFile::matrix_of(std::string_view name, DType dtype,
                                           std::size_t alignment) const {
  const TensorInfo& info = state_->get(name, dtype);
  if (info.shape.size() > 2) {
    throw Error(ErrorCode::shape_mismatch, state_->name + ": tensor " + in_quotes(name) + " is " +
                                               describe_tensor(info.dtype, info.shape) +
                                               ", which is not a matrix");
  }
  const std::uint64_t rows = info.shape.size() == 2 ? info.shape[0] : 1;
  const std::uint64_t cols = info.shape.empty() ? 1 : info.shape.back();
  constexpr auto kLimit = static_cast<std::uint64_t>(std::numeric_limits<std::int64_t>::max());
  if (rows > kLimit || cols > kLimit) {
    throw Error(ErrorCode::out_of_range, state_->name + ": tensor " + in_quotes(name) + " is " +
                                             describe_tensor(info.dtype, info.shape) +
                                             ", beyond 2^63-1");
  }
  detail::TensorMatrix result{nullptr, static_cast<std::int64_t>(rows),
                              static_cast<std::int64_t>(cols)};
  const std::span<const std::byte> bytes = state_->bytes_of(info);
  if (std::bit_cast<std::uintptr_t>(bytes.data()) % alignment == 0) {
    result.data = bytes.data();
    return result;
  }
  const std::lock_guard lock(state_->copies_mutex);
  std::unique_ptr<std::byte[]>& copy = state_->copies[&info];
  if (copy == nullptr) {
    copy = std::make_unique_for_overwrite<std::byte[]>(bytes.size());
    if (!bytes.empty()) std::memcpy(copy.get(), bytes.data(), bytes.size());
  }
  result.data = copy.get();
  return result;
}

std::size_t TensorFile::element_count(std::string_view name, DType dtype) const {
  const TensorInfo& info = state_->get(name, dtype);
  const auto bits = static_cast<std::uint64_t>(describe(dtype).bits);
  return static_cast<std::size_t>(info.bytes / (bits / 8));
}

void TensorFile::copy_elements(std::string_view name, void* to) const {
  const std::span<const std::byte> bytes = state_->bytes_of(state_->get(name));
  if (!bytes.empty()) std::memcpy(to, bytes.data(), bytes.size());
}

void TensorFile::release(std::string_view name) const {
  const TensorInfo& info = state_->get(name);
  {
    const std::lock_guard lock(state_->copies_mutex);
    state_->copies.erase(&info);
  }
  state_->memory.release(static_cast<std::size_t>(info.file_offset),
                         static_cast<std::size_t>(info.bytes));
}

void TensorFile::read(const TensorInfo& tensor, std::uint64_t begin,
                      std::span<std::byte> into) const {
  if (begin > tensor.bytes || into.size() > tensor.bytes - begin) {
    throw Error(ErrorCode::out_of_range, state_->name + ": bytes " + std::to_string(begin) +
                                             " to " + std::to_string(begin + into.size()) +
                                             " of tensor " + in_quotes(tensor.name) +
                                             ", which has " + std::to_string(tensor.bytes));
  }
  if (state_->opened) {
    state_->opened->read_at(tensor.file_offset + begin, into);
    return;
  }
  const std::span<const std::byte> from =
      state_->bytes_of(tensor).subspan(static_cast<std::size_t>(begin), into.size());
  std::copy(from.begin(), from.end(), into.begin());
  // As the file is mapped only, what was read would stay resident.
  state_->memory.release(static_cast<std::size_t>(tensor.file_offset + begin), into.size());
}

}  // namespace kvant::io
