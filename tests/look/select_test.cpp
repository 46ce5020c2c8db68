// select_schemes: what is promised about a plan is what quantize_checkpoint then writes, budgets
// are kept, and no single layer of a total could go back.

#include <cmath>
#include <string>

#include "kvant/look/report.hpp"
#include "kvant/look/select.hpp"
#include "support/catch.hpp"
#include "support/checkpoint_builder.hpp"
#include "support/golden.hpp"

using kvant::io::WeightScheme;
using kvant::look::Budget;
using kvant::look::BudgetKind;
using kvant::look::parse_budget;
using kvant::look::SchemePlan;
using kvant::look::select_schemes;

namespace {

const std::string kModel = kvant::test::data_path("checkpoints/fp32");

SchemePlan plan_for(const std::string& budget, bool total = false) {
  return select_schemes(kModel, parse_budget(budget, total));
}

}  // namespace

TEST_CASE("budgets are decibels or bytes") {
  const auto check = [](const char* text, BudgetKind kind, double value) {
    INFO(text);
    const Budget budget = parse_budget(text);
    CHECK(budget.kind == kind);
    CHECK(budget.value == value);
  };
  check("40dB", BudgetKind::layer_sqnr, 40);
  check("42.5 db", BudgetKind::layer_sqnr, 42.5);
  check("500MB", BudgetKind::bytes, 5e8);
  check("1.5GiB", BudgetKind::bytes, 1.5 * 1073741824.0);
  check("123456", BudgetKind::bytes, 123456);
  check("4.5bits", BudgetKind::bits, 4.5);
  check("8 bits", BudgetKind::bits, 8);
  CHECK(parse_budget("40dB", true).kind == BudgetKind::total_sqnr);
  for (const char* text :
       {"", "dB", "40 apples", "-5MB", "0bits", "-1bits", "0", "nandB", "1e999dB", "MB5"}) {
    INFO(text);
    CHECK_THROWS_AS(parse_budget(text), kvant::Error);
  }
  CHECK_THROWS_AS(parse_budget("5MB", true), kvant::Error);
}

TEST_CASE("every layer reaches the budget with its smallest form") {
  const SchemePlan loose = plan_for("20dB");
  const SchemePlan middle = plan_for("60dB");
  const SchemePlan strict = plan_for("200dB");
  for (std::size_t i = 0; i < loose.layers.size(); ++i) {
    CHECK(loose.layers[i].choice().scheme == WeightScheme::llm_int8);
    CHECK(middle.layers[i].choice().scheme == WeightScheme::fp16);
    CHECK(strict.layers[i].choice().scheme == WeightScheme::fp32);
    CHECK(middle.layers[i].sqnr_db() >= 60);
  }
  CHECK(loose.bytes_after < middle.bytes_after);
  CHECK(strict.bytes_after == strict.bytes_before);
  CHECK(to_arguments(loose) == "--scheme llm-int8");
  CHECK(to_arguments(strict).empty());
  CHECK(to_arguments(middle) ==
        "--only '*.c_attn=fp16' --only '*.c_proj=fp16' --only '*.c_fc=fp16'");
}

TEST_CASE("a total is reached with few bytes, and a size is not exceeded") {
  const SchemePlan total = plan_for("46dB", true);
  CHECK(total.total_sqnr_db >= 46);
  // No single layer can go back.
  for (std::size_t i = 0; i < total.layers.size(); ++i) {
    double signal = 0;
    double error = 0;
    for (std::size_t k = 0; k < total.layers.size(); ++k) {
      const auto& layer = total.layers[k];
      const std::size_t chosen = k == i && layer.chosen > 0 ? layer.chosen - 1 : layer.chosen;
      signal += layer.signal;
      error += layer.choices[chosen].squared_error;
    }
    if (total.layers[i].chosen > 0) CHECK(10 * std::log10(signal / error) < 46);
  }
  double before = 0;
  for (const int bytes : {112000, 130000, 150000, 200000, 293000}) {
    const SchemePlan plan = plan_for(std::to_string(bytes) + "B");
    CHECK(plan.bytes_after <= static_cast<std::uint64_t>(bytes));
    CHECK(plan.total_sqnr_db >= before);  // more bytes, never worse
    before = plan.total_sqnr_db;
  }
  CHECK_THROWS_WITH(plan_for("1000B"), Catch::Matchers::Contains("the smallest plan takes"));
}

TEST_CASE("a plan is what quantize_checkpoint writes") {
  const kvant::test::TempFolder out;
  int number = 0;
  for (const char* budget : {"20dB", "44.3dB", "60dB", "150000B", "250000B"}) {
    const SchemePlan plan = plan_for(budget);
    INFO(budget << "\n" << to_text(plan) << to_arguments(plan));
    const auto folder = out.path() / std::to_string(number++);
    kvant::io::quantize_checkpoint(kModel, folder, to_quantize_options(plan));
    const auto report = kvant::look::report_checkpoint(kModel, folder);
    CHECK(report.bytes_after == plan.bytes_after);
    REQUIRE(report.layers.size() == plan.layers.size());
    for (std::size_t i = 0; i < plan.layers.size(); ++i) {
      INFO(plan.layers[i].layer.name);
      CHECK(report.layers[i].bytes_after == plan.layers[i].choice().bytes);
      CHECK(report.layers[i].squared_error ==
            Approx(plan.layers[i].choice().squared_error).epsilon(1e-5));
    }
  }
}

TEST_CASE("forms that a weight does not fit are not proposed") {
  kvant::test::CheckpointBuilder model;
  std::vector<float> values = kvant::test::wave(64, 1);
  values[5] = 1e6f;  // beyond fp16, and so beyond the 8-bit form, which goes through it
  model.config(R"({"model_type": "llama"})");
  model.add("model.layers.0.mlp.up_proj.weight", {8, 8}, values);
  const SchemePlan plan = select_schemes(model.write(), parse_budget("10dB"));
  REQUIRE(plan.layers.size() == 1);
  CHECK(plan.layers[0].choice().scheme == WeightScheme::bf16);
}

TEST_CASE("quantized models and models without linear layers are refused") {
  CHECK_THROWS_WITH(select_schemes(kvant::test::data_path("checkpoints/bnb_int8"), {}),
                    Catch::Matchers::Contains("stored as int8"));
  kvant::test::CheckpointBuilder none;
  none.add("x", {4}, kvant::test::wave(4, 1));
  CHECK_THROWS_WITH(select_schemes(none.write(), {}),
                    Catch::Matchers::Contains("no linear layers"));
}
