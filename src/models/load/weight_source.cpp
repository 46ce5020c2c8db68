#include "models/load/weight_source.hpp"

#include <cstring>

#include "models/load/packed_rows.hpp"

namespace kvant::models {

void WeightSource::read_columns(const std::string& name, std::int64_t row, std::int64_t first,
                                std::int64_t count, void* out) const {
  const SourceTensor tensor = describe(name);
  const auto size = static_cast<std::size_t>(kvant::describe(tensor.dtype).bits / 8);
  std::vector<std::byte> whole(static_cast<std::size_t>(tensor.shape.back()) * size);
  read(name, row, 1, whole.data());
  std::memcpy(out, whole.data() + static_cast<std::size_t>(first) * size,
              static_cast<std::size_t>(count) * size);
}

std::optional<PackedLayer> WeightSource::packed_rows(Context& context, const std::string& name,
                                                     const std::vector<Share>& rows) const {
  const std::optional<PackedLayer> whole = packed(context, name);
  if (!whole) return std::nullopt;
  return PackedLayer{take_rows(context, whole->weights, rows), whole->order};
}

}  // namespace kvant::models
