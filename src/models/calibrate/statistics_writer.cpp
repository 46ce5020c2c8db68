#include "models/calibrate/statistics_writer.hpp"

#include <algorithm>
#include <nlohmann/json.hpp>
#include <span>

#include "kvant/io/safetensors.hpp"
#include "kvant/io/safetensors_stream.hpp"
#include "kvant/io/safetensors_writer.hpp"
#include "models/calibrate/statistics_names.hpp"

namespace kvant::models {

void write_statistics(const std::filesystem::path& file,
                      const std::vector<std::unique_ptr<ObservedInput>>& inputs) {
  io::SafeTensorsWriter writer;
  nlohmann::ordered_json readers;
  std::vector<std::vector<std::int64_t>> rows;
  rows.reserve(inputs.size());
  for (const auto& input : inputs) {
    const methods::InputStatistics& seen = input->statistics;
    const std::string& name = input->layers.front();
    for (const std::string& layer : input->layers) readers[layer] = name;
    rows.push_back({seen.rows, seen.outlier_rows});
    writer.add(name + kMin, std::span<const float>(seen.min));
    writer.add(name + kMax, std::span<const float>(seen.max));
    writer.add(name + kSumAbs, std::span<const double>(seen.sum_abs));
    writer.add(name + kOutliers, std::span<const std::int64_t>(seen.outliers));
    writer.add(name + kHistogram, std::span<const std::int64_t>(seen.histogram));
    writer.add(name + kRows, std::span<const std::int64_t>(rows.back()));
    if (input->moments.features() > 0) writer.add(name + kMoments, input->moments.sums());
  }
  writer.set_metadata("inputs", readers.dump());
  writer.write(file);
}

void join_statistics(const std::vector<std::filesystem::path>& blocks,
                     const std::filesystem::path& out, std::map<std::string, std::string> metadata,
                     CalibrateSummary& summary) {
  std::vector<io::TensorSpec> specs;
  nlohmann::ordered_json readers = nlohmann::ordered_json::object();
  for (const std::filesystem::path& file : blocks) {
    const io::SafeTensors block(file);
    for (const io::TensorInfo& info : block.tensors()) {
      specs.push_back({info.name, info.dtype, info.shape});
      summary.inputs += info.name.ends_with(kRows);
    }
    const auto part = nlohmann::ordered_json::parse(block.metadata().at("inputs"));
    for (const auto& [layer, input] : part.items()) readers[layer] = input;
  }
  summary.layers = static_cast<std::int64_t>(readers.size());
  metadata["format"] = kStatisticsFormat;
  metadata["inputs"] = readers.dump();
  io::SafeTensorsStream stream(out, std::move(specs), metadata);
  std::vector<std::byte> piece;
  for (const std::filesystem::path& file : blocks) {
    const io::SafeTensors block(file);
    for (const io::TensorInfo& info : block.tensors()) {
      constexpr std::uint64_t kPiece = 4 << 20;
      for (std::uint64_t at = 0; at < info.bytes; at += kPiece) {
        piece.resize(static_cast<std::size_t>(std::min(kPiece, info.bytes - at)));
        block.read(info, at, piece);
        stream.write(info.name, at, piece);
      }
    }
  }
  stream.commit();
}

}  // namespace kvant::models
