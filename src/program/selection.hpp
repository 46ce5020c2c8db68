#pragma once

// kvant select --measure: a model, what was found of its layers, and from there to the answer.

#include <cstdint>
#include <string>
#include <utility>
#include <vector>

#include "kvant/context.hpp"
#include "kvant/io/quantize_checkpoint.hpp"
#include "kvant/look/budget.hpp"
#include "kvant/look/mix_report.hpp"
#include "kvant/models/mix.hpp"
#include "kvant/models/model_files.hpp"
#include "progress.hpp"
#include "select_measured.hpp"

namespace kvant::program {

/// The model and what was found of it, and from there to the answer.
class Selection {
 public:
  /// Loads the model. @throws Error as models::FormatTrials
  Selection(const SelectTask& task, const models::ModelFiles& files, Context& context, bool exact);

  void measure(const std::vector<std::vector<models::TokenId>>& windows,
               models::MeasureOptions options);
  /// Quantized formats take what their form in files takes (GPTQ's has zero points and an index
  /// too), and fp32 what is there already, where a layer is named.
  void count_as_written(const std::vector<io::PlannedLayer>& layers);
  /// What perplexities are of.
  void set_evaluation(std::vector<models::TokenId> ids, std::int64_t window);

  [[nodiscard]] const models::Sensitivities& found() const { return found_; }
  [[nodiscard]] const models::Perplexity& floats() const { return floats_; }

  /// Under a budget of bytes or bits. @throws Error, UsageError
  [[nodiscard]] models::MeasuredMix under(const look::Budget& budget);
  [[nodiscard]] models::MeasuredMix below(double perplexity);

  /// What there was to choose from. @param measured their perplexities too
  void add_points(look::MixReport& report, bool measured);
  [[nodiscard]] look::MixPoint point_of(const models::Mix& mix, look::MixPointKind kind,
                                        const std::string& label) const;

  [[nodiscard]] double bits_of(std::uint64_t bytes) const {
    return 8 * static_cast<double>(bytes) / static_cast<double>(found_.elements());
  }

 private:
  [[nodiscard]] static models::EvaluateOptions evaluation();
  [[nodiscard]] models::Perplexity evaluate(const models::Mix& mix);
  /// Of the layers, and of the model.
  [[nodiscard]] std::string in_words(std::uint64_t bytes) const;

  const SelectTask& task_;
  Progress loading_;
  models::FormatTrials trials_;
  models::Sensitivities found_;
  std::vector<models::TokenId> ids_;
  std::int64_t window_ = 0;
  models::Perplexity floats_;
};

}  // namespace kvant::program
