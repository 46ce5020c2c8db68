#include "kvant/io/safetensors.hpp"

#include <algorithm>
#include <bit>
#include <cstring>
#include <limits>
#include <mutex>
#include <new>
#include <utility>

#include "io/file/file_bytes.hpp"
#include "io/safetensors/safetensors_header.hpp"
#include "io/text/quoting.hpp"

namespace kvant::io {

static_assert(std::endian::native == std::endian::little,
              "safetensors is little-endian; views into it need a little-endian machine");

struct SafeTensors::State {
  State(FileBytes file_bytes, std::span<const std::byte> bytes, std::string file_name)
      : file(std::move(file_bytes)), name(std::move(file_name)) {
    header = parse_safetensors(bytes, name);
    data = bytes.subspan(header.data_begin);
    by_name.resize(header.tensors.size());
    for (std::size_t i = 0; i < by_name.size(); ++i) by_name[i] = i;
    std::sort(by_name.begin(), by_name.end(), [this](std::size_t a, std::size_t b) {
      return header.tensors[a].name < header.tensors[b].name;
    });
  }

  [[nodiscard]] const TensorInfo* find(std::string_view wanted) const noexcept {
    const auto it = std::lower_bound(by_name.begin(), by_name.end(), wanted,
                                     [this](std::size_t index, std::string_view key) {
                                       return header.tensors[index].name < key;
                                     });
    if (it == by_name.end() || header.tensors[*it].name != wanted) return nullptr;
    return &header.tensors[*it];
  }

  [[nodiscard]] const TensorInfo& get(std::string_view wanted) const {
    if (const TensorInfo* info = find(wanted)) return *info;
    std::string message = name + ": there is no tensor " + in_quotes(wanted) + " among " +
                          std::to_string(header.tensors.size());
    if (!by_name.empty()) {  // the neighbour in the alphabet is often the one that was meant
      const auto it = std::lower_bound(by_name.begin(), by_name.end(), wanted,
                                       [this](std::size_t index, std::string_view key) {
                                         return header.tensors[index].name < key;
                                       });
      const std::size_t near = it == by_name.end() ? by_name.back() : *it;
      message += " (there is " + in_quotes(header.tensors[near].name) + ")";
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

  // Offsets were checked against the buffer, so they fit size_t.
  [[nodiscard]] std::span<const std::byte> bytes_of(const TensorInfo& info) const noexcept {
    return data.subspan(static_cast<std::size_t>(info.offset),
                        static_cast<std::size_t>(info.bytes));
  }

  FileBytes file;
  std::string name;
  SafeTensorsHeader header;
  std::span<const std::byte> data;
  std::vector<std::size_t> by_name;
  // Copies of tensors that are not aligned where they stand, made on demand. operator new aligns
  // for every element type.
  std::mutex copies_mutex;
  std::map<const TensorInfo*, std::unique_ptr<std::byte[]>> copies;
};

SafeTensors::SafeTensors(const std::filesystem::path& path, LoadMode mode) {
  FileBytes file = mode == LoadMode::map ? FileBytes::map(path) : FileBytes::read(path);
  const std::span<const std::byte> bytes = file.bytes();
  state_ = std::make_shared<State>(std::move(file), bytes, path.string());
}

SafeTensors SafeTensors::from_bytes(std::span<const std::byte> bytes, std::string name) {
  return SafeTensors(std::make_shared<State>(FileBytes(), bytes, std::move(name)));
}

const std::vector<TensorInfo>& SafeTensors::tensors() const noexcept {
  return state_->header.tensors;
}

const std::map<std::string, std::string>& SafeTensors::metadata() const noexcept {
  return state_->header.metadata;
}

const TensorInfo* SafeTensors::find(std::string_view name) const noexcept {
  return state_->find(name);
}

bool SafeTensors::contains(std::string_view name) const noexcept {
  return state_->find(name) != nullptr;
}

TensorView SafeTensors::tensor(std::string_view name) const {
  const TensorInfo& info = state_->get(name);
  return {&info, state_->bytes_of(info)};
}

detail::TensorMatrix SafeTensors::matrix_of(std::string_view name, DType dtype,
                                            std::size_t alignment) const {
  const TensorInfo& info = state_->get(name, dtype);
  if (info.shape.size() > 2) {
    throw Error(ErrorCode::shape_mismatch, state_->name + ": tensor " + in_quotes(name) + " is " +
                                               describe_tensor(info.dtype, info.shape) +
                                               ", which is no matrix");
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

std::size_t SafeTensors::element_count(std::string_view name, DType dtype) const {
  const TensorInfo& info = state_->get(name, dtype);
  const auto bits = static_cast<std::uint64_t>(describe(dtype).bits);
  return static_cast<std::size_t>(info.bytes / (bits / 8));
}

void SafeTensors::copy_elements(std::string_view name, void* to) const {
  const std::span<const std::byte> bytes = state_->bytes_of(state_->get(name));
  if (!bytes.empty()) std::memcpy(to, bytes.data(), bytes.size());
}

void SafeTensors::release(std::string_view name) const {
  const TensorInfo& info = state_->get(name);
  {
    const std::lock_guard lock(state_->copies_mutex);
    state_->copies.erase(&info);
  }
  state_->file.release(state_->header.data_begin + static_cast<std::size_t>(info.offset),
                       static_cast<std::size_t>(info.bytes));
}

}  // namespace kvant::io
