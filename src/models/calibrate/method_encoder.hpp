#pragma once

// MethodEncoder: the methods as what io asks for codes.

#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include "kvant/io/layer_encoder.hpp"
#include "kvant/methods/gptq.hpp"
#include "kvant/models/quantize_methods.hpp"

namespace kvant::models {

class MethodEncoder final : public io::LayerEncoder {
 public:
  /// @param kernels of the rows' work, in the threads that ask
  /// @param statistics null where the method reads none
  MethodEncoder(const KernelTable& kernels, const MethodOptions& options,
                const StatisticsFile* statistics)
      : kernels_(kernels), options_(options), statistics_(statistics) {}

  [[nodiscard]] std::unique_ptr<io::RowEncoder> open(const std::string& layer, std::int64_t outputs,
                                                     std::int64_t inputs) const override;
  /// The layer's weights come multiplied by these.
  void set_scales(const std::string& layer, std::vector<float> scales, double ratio);

  /// The codes of a whole layer whose inputs have these moments, which are not scaled.
  [[nodiscard]] methods::GroupCodes choose(Context& context, const methods::GramMatrix& moments,
                                           MatrixView<const float> weights) const;

  /// Of the layers so far; ascending.
  [[nodiscard]] std::vector<LayerOutcome> outcomes() const;

  [[nodiscard]] methods::GroupScheme scheme() const {
    const std::int64_t group = options_.group == -1 ? 0 : options_.group;  // 0: all inputs
    return {.bits = options_.bits, .group = group, .symmetric = options_.symmetric};
  }

 private:
  struct Sums {
    double power = 0;
    double nearest = 0;
    double chosen = 0;
    double ratio = 0;
    bool measured = false;
    std::string notes;
  };
  struct Scales {
    std::vector<float> scales;
    double ratio = 0;
  };
  class Rows;
  [[nodiscard]] methods::GptqOptions gptq_options() const;
  [[nodiscard]] methods::GroupCodes nearest(MatrixView<const float> rows) const;

  const KernelTable& kernels_;
  const MethodOptions& options_;
  const StatisticsFile* statistics_;
  std::map<std::string, Scales> scales_;
  mutable std::mutex mutex_;
  mutable std::map<std::string, Sums> sums_;
};

}  // namespace kvant::models
