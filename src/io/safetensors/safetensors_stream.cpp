#include "kvant/io/safetensors_stream.hpp"

#include <atomic>
#include <utility>
#include <vector>

#include "io/file/byte_order.hpp"
#include "io/safetensors/safetensors_layout.hpp"
#include "io/text/quoting.hpp"
#include "kvant/error.hpp"
#include "kvant/io/atomic_file.hpp"

namespace kvant::io {

struct SafeTensorsStream::State {
  State(const std::filesystem::path& path, const std::string& shown)
      : file(path, shown), name(shown.empty() ? path.string() : shown) {}

  struct Place {
    std::uint64_t offset;
    std::uint64_t bytes;
    std::size_t turning;  ///< bytes that a big-endian machine turns round together
  };
  AtomicFile file;
  std::string name;
  std::map<std::string, Place, std::less<>> places;
  std::uint64_t expected = 0;
  std::atomic<std::uint64_t> written = 0;
};

SafeTensorsStream::SafeTensorsStream(const std::filesystem::path& path,
                                     std::vector<TensorSpec> tensors,
                                     const std::map<std::string, std::string>& metadata,
                                     const std::string& shown) {
  const SafeTensorsLayout layout = plan_safetensors(tensors, metadata);
  state_ = std::make_unique<State>(path, shown);
  for (std::size_t i = 0; i < tensors.size(); ++i) {
    state_->places.emplace(
        std::move(tensors[i].name),
        State::Place{layout.offsets[i], layout.bytes[i], turning_bytes(tensors[i].dtype)});
  }
  state_->expected = layout.file_size - layout.header.size();
  state_->file.reserve(layout.file_size);
  state_->file.write(layout.header);
}

SafeTensorsStream::~SafeTensorsStream() = default;
SafeTensorsStream::SafeTensorsStream(SafeTensorsStream&&) noexcept = default;
SafeTensorsStream& SafeTensorsStream::operator=(SafeTensorsStream&&) noexcept = default;

SafeTensorsStream::State& SafeTensorsStream::state() const {
  if (state_ == nullptr) {
    throw Error(ErrorCode::invalid_argument, "SafeTensorsStream: it was moved away from");
  }
  return *state_;
}

void SafeTensorsStream::write(std::string_view name, std::uint64_t offset,
                              std::span<const std::byte> bytes) {
  static_cast<void>(state());
  const auto place = state_->places.find(name);
  if (place == state_->places.end()) {
    throw Error(ErrorCode::invalid_argument,
                state_->name + ": there is no tensor " + in_quotes(name) + " to write");
  }
  const std::uint64_t size = place->second.bytes;
  if (offset > size || bytes.size() > size - offset) {
    throw Error(ErrorCode::out_of_range, state_->name + ": " + std::to_string(bytes.size()) +
                                             " bytes at " + std::to_string(offset) +
                                             " do not fit tensor " + in_quotes(name) + " of " +
                                             std::to_string(size));
  }
  const std::size_t turning = place->second.turning;
  if (kTurnsBytes && (offset % turning != 0 || bytes.size() % turning != 0)) {
    throw Error(ErrorCode::invalid_argument,
                state_->name + ": tensor " + in_quotes(name) + " is written in whole elements");
  }
  std::vector<std::byte> turned;
  state_->file.write_at(place->second.offset + offset, file_order(bytes, turning, turned));
  state_->written += bytes.size();
}

void SafeTensorsStream::close_between_writes() {
  state().file.close_between_writes();
}

void SafeTensorsStream::commit() {
  static_cast<void>(state());
  if (state_->written != state_->expected) {
    throw Error(ErrorCode::invalid_argument, state_->name + ": " + std::to_string(state_->written) +
                                                 " bytes were written, the tensors have " +
                                                 std::to_string(state_->expected));
  }
  state_->file.commit();
}

}  // namespace kvant::io
