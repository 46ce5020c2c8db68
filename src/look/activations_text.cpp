// An ActivationReport as tables and as JSON.

#include "look/activations_text.hpp"

#include <algorithm>
#include <cmath>
#include <map>
#include <nlohmann/json.hpp>
#include <utility>

#include "look/text_table.hpp"

namespace kvant::look {
namespace {

constexpr std::size_t kShownOutliers = 12;

nlohmann::ordered_json number(double value) {
  if (!std::isfinite(value)) return nullptr;
  return value;
}

/// "3 of 40 inputs gain from llm-int8, 2 from smoothquant".
std::string gains_line(const ActivationReport& report, const char* bits,
                       const std::vector<MethodEstimate> ActivationInput::*methods) {
  std::map<std::string, std::size_t> counts;
  std::size_t gaining = 0;
  std::size_t known = 0;
  std::string plain;
  for (const ActivationInput& input : report.inputs) {
    const std::vector<MethodEstimate>& estimates = input.*methods;
    const std::size_t chosen = choose_method(estimates);
    if (chosen == estimates.size()) continue;
    ++known;
    plain = estimates.front().method;
    if (chosen == 0) continue;
    ++gaining;
    ++counts[estimates[chosen].method];
  }
  if (known == 0) return {};
  std::string text = std::string(bits) + " bits: " + std::to_string(gaining) + " of " +
                     counted(known, "input") + " would gain from more than plain rounding (" +
                     plain + ")";
  std::string list;
  for (const auto& [method, count] : counts) {
    list += (list.empty() ? ": " : ", ") + std::to_string(count) + " from " + method;
  }
  return text + list + "\n";
}

std::string features_text(
    const std::vector<std::pair<const ActivationInput*, OutlierFeature>>& all) {
  TextTable table({{"outlier feature of"},
                   {"feature", Align::right},
                   {"largest", Align::right},
                   {"mean", Align::right},
                   {"tokens", Align::right},
                   {"", Align::right}});
  for (std::size_t i = 0; i < std::min(kShownOutliers, all.size()); ++i) {
    const auto& [input, outlier] = all[i];
    table.add({shown_name(input->layers.front()), std::to_string(outlier.feature),
               number_text(outlier.largest, 3), number_text(outlier.mean, 3),
               std::to_string(outlier.tokens), share_text(outlier.tokens, input->tokens)});
  }
  return table.text();
}

nlohmann::ordered_json methods_json(const std::vector<MethodEstimate>& methods) {
  nlohmann::ordered_json json;
  json["sqnr_db"] = nlohmann::ordered_json::object();
  for (const MethodEstimate& estimate : methods) {
    json["sqnr_db"][estimate.method] = number(estimate.sqnr_db);
  }
  const std::size_t chosen = choose_method(methods);
  json["proposed"] = chosen == methods.size() ? nlohmann::ordered_json(nullptr)
                                              : nlohmann::ordered_json(methods[chosen].method);
  return json;
}

/// In lines for a terminal.
std::string wrapped(const std::string& paragraph) {
  constexpr std::size_t kWidth = 100;
  std::string text;
  std::size_t used = 0;
  for (std::size_t at = 0; at < paragraph.size();) {
    const std::size_t end = std::min(paragraph.find(' ', at), paragraph.size());
    if (used > 0 && used + 1 + end - at > kWidth) {
      text += '\n';
      used = 0;
    }
    if (used > 0) text += ' ';
    used += (used > 0 ? 1 : 0) + end - at;
    text += paragraph.substr(at, end - at);
    at = end + 1;
  }
  return text + "\n";
}

}  // namespace

std::size_t choose_method(const std::vector<MethodEstimate>& methods) {
  std::size_t chosen = methods.size();
  for (std::size_t i = 0; i < methods.size(); ++i) {
    if (std::isnan(methods[i].sqnr_db)) continue;
    if (chosen == methods.size() ||
        methods[i].sqnr_db >= methods[chosen].sqnr_db + kWorthwhileGain) {
      chosen = i;
    }
  }
  return chosen;
}

std::string share_text(std::int64_t part, std::int64_t whole) {
  if (whole <= 0) return "-";
  return number_text(100.0 * static_cast<double>(part) / static_cast<double>(whole), 3) + " %";
}

std::string plain_text(const std::vector<MethodEstimate>& methods) {
  return methods.empty() || std::isnan(methods.front().sqnr_db)
             ? "-"
             : decibel_text(methods.front().sqnr_db);
}

std::string gain_text(const std::vector<MethodEstimate>& methods) {
  const std::size_t chosen = choose_method(methods);
  if (chosen == methods.size()) return "-";
  if (chosen == 0 || std::isnan(methods.front().sqnr_db)) return methods[chosen].method;
  return methods[chosen].method + " +" +
         decibel_text(methods[chosen].sqnr_db - methods.front().sqnr_db);
}

std::vector<std::string> explanations(const ActivationReport& report) {
  return {
      "An outlier feature is one that reached " + number_text(report.threshold, 4) +
          ". Percentiles are of magnitudes, to within 12 %.",
      "8 and 4 bits: estimates of the outputs' SQNR in dB (power over error) with plain rounding, "
      "then the method to take and what it gains. It is the first of int8, smoothquant, llm-int8, "
      "and of int4, awq, gptq, that no later one exceeds by " +
          number_text(kWorthwhileGain, 2) +
          " dB. int8 is of weights and activations, llm-int8 with the outlier features and their "
          "weights in floating point; int4 is of weights in groups of " +
          std::to_string(report.group) + ", gptq with --act-order.",
      "The estimates take a rounding error to be uniform. int8: a step is as large as a token's "
      "largest element makes it, with outliers in as many tokens as were counted. int4: the error "
      "of a sample of the weights, weighted by the second moments of the features; awq searches "
      "its scales by it; gptq has what the features behind each one cannot make up for. "
      "smoothquant and awq are for inputs whose factors a norm or layer before them can take."};
}

std::string to_text(const ActivationReport& report) {
  TextTable table({{"input of"},
                   {"layers", Align::right},
                   {"median", Align::right},
                   {"99 %", Align::right},
                   {"99.9 %", Align::right},
                   {"largest", Align::right},
                   {"outliers", Align::right},
                   {"tokens", Align::right},
                   {"8 bits", Align::right},
                   {"take"},
                   {"4 bits", Align::right},
                   {"take"}});
  std::vector<std::pair<const ActivationInput*, OutlierFeature>> outliers;
  for (const ActivationInput& input : report.inputs) {
    const std::string name = shown_name(input.layers.front());
    if (input.tokens == 0) {
      table.add({name, std::to_string(input.layers.size())});
      continue;
    }
    table.add({name, std::to_string(input.layers.size()), number_text(input.median, 3),
               number_text(input.p99, 3), number_text(input.p999, 3), number_text(input.largest, 3),
               input.outlier_features == 0 ? "-" : std::to_string(input.outlier_features),
               input.outlier_tokens == 0 ? "-" : share_text(input.outlier_tokens, input.tokens),
               plain_text(input.int8), gain_text(input.int8), plain_text(input.int4),
               gain_text(input.int4)});
    for (const OutlierFeature& outlier : input.outliers) outliers.emplace_back(&input, outlier);
  }
  std::string text = table.text() + "\n";
  for (const ActivationInput& input : report.inputs) {
    if (!input.note.empty()) text += shown_name(input.layers.front()) + ": " + input.note + "\n";
  }
  std::stable_sort(outliers.begin(), outliers.end(), [](const auto& a, const auto& b) {
    return a.second.largest > b.second.largest;
  });
  if (!outliers.empty()) text += features_text(outliers) + "\n";
  text += counted(report.inputs.size(), "input") + " over " +
          counted(static_cast<std::uint64_t>(report.tokens), "token") + "\n";
  text += gains_line(report, "8", &ActivationInput::int8);
  text += gains_line(report, "4", &ActivationInput::int4) + "\n";
  for (const std::string& line : explanations(report)) text += wrapped(line);
  for (const std::string& warning : report.warnings) text += "warning: " + warning + "\n";
  return text;
}

std::string to_json(const ActivationReport& report) {
  nlohmann::ordered_json json;
  json["model"] = report.model;
  json["source"] = report.source;
  json["tokens"] = report.tokens;
  json["threshold"] = report.threshold;
  json["group"] = report.group;
  json["inputs"] = nlohmann::ordered_json::array();
  for (const ActivationInput& input : report.inputs) {
    nlohmann::ordered_json row;
    row["name"] = input.layers.front();
    row["layers"] = input.layers;
    row["features"] = input.features;
    row["outputs"] = input.outputs;
    row["tokens"] = input.tokens;
    row["percentiles"] = {{"50", number(input.median)},
                          {"99", number(input.p99)},
                          {"99.9", number(input.p999)},
                          {"99.99", number(input.p9999)},
                          {"100", number(input.largest)}};
    row["outlier_features"] = input.outlier_features;
    row["outlier_tokens"] = input.outlier_tokens;
    row["largest_outliers"] = nlohmann::ordered_json::array();
    for (const OutlierFeature& outlier : input.outliers) {
      row["largest_outliers"].push_back({{"feature", outlier.feature},
                                         {"largest", number(outlier.largest)},
                                         {"mean", number(outlier.mean)},
                                         {"tokens", outlier.tokens}});
    }
    row["histogram"] = nlohmann::ordered_json::array();
    for (const MagnitudeBin& bin : input.histogram) {
      row["histogram"].push_back({number(bin.least), number(bin.largest), bin.count});
    }
    row["zeros"] = input.zeros;
    row["int8"] = methods_json(input.int8);
    row["int4"] = methods_json(input.int4);
    if (!input.note.empty()) row["note"] = input.note;
    json["inputs"].push_back(std::move(row));
  }
  json["warnings"] = report.warnings;
  // Names and paths may hold bytes that are not UTF-8.
  return json.dump(1, ' ', false, nlohmann::ordered_json::error_handler_t::replace) + "\n";
}

}  // namespace kvant::look
