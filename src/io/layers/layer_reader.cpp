#include "kvant/io/layer_reader.hpp"

#include <algorithm>

#include "io/layers/stored_format.hpp"

namespace kvant::io {
namespace {

constexpr std::int64_t kBlockElements = 1 << 18;

}  // namespace

std::int64_t rows_per_block(const StoredLayer& layer) noexcept {
  return std::max<std::int64_t>(1, kBlockElements / std::max<std::int64_t>(1, layer.inputs));
}

std::optional<QuantParams> input_params(const Checkpoint& checkpoint, const StoredLayer& layer) {
  return form_of(checkpoint, layer).input_params(checkpoint, layer);
}

struct LayerReader::State {
  std::span<const std::byte> data;
  std::unique_ptr<RowDecoder> rows;
  std::int64_t inputs = 0;

  [[nodiscard]] std::span<const std::byte> bytes_of(std::int64_t first, std::int64_t count) const {
    const RowDecoder::Range range = rows->bytes_of(first, count);
    return data.subspan(static_cast<std::size_t>(range.begin),
                        static_cast<std::size_t>(range.size));
  }
};

LayerReader::LayerReader(const Checkpoint& checkpoint, const StoredLayer& layer)
    : state_(std::make_unique<State>()) {
  state_->data = checkpoint.tensor(layer.tensor).data;
  state_->rows = form_of(checkpoint, layer).open(checkpoint, layer);
  state_->inputs = layer.inputs;
}

LayerReader::~LayerReader() = default;
LayerReader::LayerReader(LayerReader&&) noexcept = default;
LayerReader& LayerReader::operator=(LayerReader&&) noexcept = default;

void LayerReader::read(std::int64_t first, std::int64_t count, float* out) const {
  state_->rows->decode({first, count, 0, state_->inputs}, state_->bytes_of(first, count), out);
}

std::optional<LayerCodes> LayerReader::codes() const {
  return state_->rows->codes();
}

void LayerReader::read_codes(std::int64_t first, std::int64_t count, std::uint8_t* out) const {
  state_->rows->unpack(first, count, state_->bytes_of(first, count), out);
}

std::vector<std::int64_t> LayerReader::kept_columns() const {
  return state_->rows->kept_columns();
}

}  // namespace kvant::io
