// A SchemePlan as a table, as JSON, and as the arguments that carry it out.

#include <algorithm>
#include <cmath>
#include <map>
#include <nlohmann/json.hpp>
#include <set>

#include "kvant/look/select.hpp"
#include "look/json_number.hpp"
#include "look/text_table.hpp"

namespace kvant::look {
namespace {

std::string last_part(const std::string& layer) {
  const std::size_t dot = layer.rfind('.');
  return dot == std::string::npos ? std::string() : layer.substr(dot + 1);
}

bool any_quantized(const SchemePlan& plan) {
  return std::any_of(plan.layers.begin(), plan.layers.end(),
                     [](const LayerPlan& layer) { return layer.choice().scheme.quantizes(); });
}

std::vector<io::LayerRule> rules_of(const SchemePlan& plan) {
  std::map<std::string, std::set<io::WeightScheme>> by_part;
  for (const LayerPlan& layer : plan.layers) {
    by_part[last_part(layer.layer.name)].insert(layer.choice().scheme);
  }
  std::vector<io::LayerRule> rules;
  std::set<std::string> done;
  const bool base_quantized = any_quantized(plan);
  for (const LayerPlan& layer : plan.layers) {
    const io::WeightScheme scheme = layer.choice().scheme;
    // What the rules need not say: quantized, or, where no layer is, what stays as it was.
    const bool as_stored = layer.chosen + 1 == layer.choices.size();
    if (base_quantized ? scheme.quantizes() : as_stored) continue;
    const std::string part = last_part(layer.layer.name);
    if (part.empty() || by_part[part].size() > 1) {
      rules.push_back({layer.layer.name, scheme});
    } else if (done.insert(part).second) {
      rules.push_back({"*." + part, scheme});
    }
  }
  return rules;
}

/// In single quotes, as a shell takes it.
std::string quoted(const std::string& text) {
  std::string result = "'";
  for (const char c : text) {
    if (c == '\'') {
      result += "'\\''";
    } else {
      result += c;
    }
  }
  return result + "'";
}

std::string budget_text(const Budget& budget) {
  switch (budget.kind) {
    case BudgetKind::layer_sqnr: return number_text(budget.value, 6) + " dB in every layer";
    case BudgetKind::total_sqnr: return number_text(budget.value, 6) + " dB over all layers";
    case BudgetKind::bits: return number_text(budget.value, 6) + " bits a weight";
    case BudgetKind::bytes: break;
  }
  return number_text(budget.value, 15) + " bytes";
}

}  // namespace

io::QuantizeCheckpointOptions to_quantize_options(const SchemePlan& plan) {
  io::QuantizeCheckpointOptions options;
  options.scheme = any_quantized(plan) ? plan.quantized : io::WeightScheme::keep;
  options.rules = rules_of(plan);
  return options;
}

std::string to_arguments(const SchemePlan& plan) {
  std::string text;
  if (any_quantized(plan)) text = "--scheme " + std::string(to_string(plan.quantized));
  for (const io::LayerRule& rule : rules_of(plan)) {
    text += std::string(text.empty() ? "" : " ") + "--only " +
            quoted(rule.pattern + "=" + std::string(to_string(rule.scheme)));
  }
  return text;
}

std::string to_text(const SchemePlan& plan) {
  TextTable table({{"layer"},
                   {"shape"},
                   {"stored"},
                   {"scheme"},
                   {"SQNR dB", Align::right},
                   {"bytes", Align::right},
                   {"after", Align::right}});
  std::uint64_t before = 0;
  std::uint64_t after = 0;
  for (const LayerPlan& layer : plan.layers) {
    table.add({shown_name(layer.layer.name),
               std::to_string(layer.layer.outputs) + " x " + std::to_string(layer.layer.inputs),
               std::string(layer.layer.scheme()), std::string(to_string(layer.choice().scheme)),
               decibel_text(layer.sqnr_db()), bytes_text(layer.layer.bytes),
               bytes_text(layer.choice().bytes)});
    before += layer.layer.bytes;
    after += layer.choice().bytes;
  }
  table.rule();
  table.add({counted(plan.layers.size(), "linear layer"), "", "", "",
             decibel_text(plan.total_sqnr_db), bytes_text(before), bytes_text(after)});
  return table.text() + "\nbudget: " + budget_text(plan.budget) + "; whole model " +
         bytes_text(plan.bytes_before) + " -> " + bytes_text(plan.bytes_after) + " (" +
         std::to_string(plan.bytes_after) + " bytes), worst layer " +
         decibel_text(plan.lowest_sqnr_db) + (std::isfinite(plan.lowest_sqnr_db) ? " dB" : "") +
         "\n";
}

std::string to_json(const SchemePlan& plan) {
  nlohmann::ordered_json json;
  json["model"] = plan.model;
  json["budget"] = budget_text(plan.budget);
  json["bytes_before"] = plan.bytes_before;
  json["bytes_after"] = plan.bytes_after;
  json["total_sqnr_db"] = json_number(plan.total_sqnr_db);
  json["lowest_sqnr_db"] = json_number(plan.lowest_sqnr_db);
  json["arguments"] = to_arguments(plan);
  json["layers"] = nlohmann::ordered_json::array();
  for (const LayerPlan& layer : plan.layers) {
    json["layers"].push_back({{"name", layer.layer.name},
                              {"stored", layer.layer.scheme()},
                              {"scheme", to_string(layer.choice().scheme)},
                              {"sqnr_db", json_number(layer.sqnr_db())},
                              {"bytes_before", layer.layer.bytes},
                              {"bytes_after", layer.choice().bytes}});
  }
  return json.dump(1, ' ', false, nlohmann::ordered_json::error_handler_t::replace) + "\n";
}

}  // namespace kvant::look
