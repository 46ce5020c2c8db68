// Outlier features of schemes whose codes are multiplied as int8: by a threshold, by rows, and kept
// in 16 bits where a text has shown them.

#include <string>

#include "models/run_model.hpp"
#include "support/catch.hpp"
#include "support/error_code.hpp"
#include "support/folders.hpp"

namespace {

using kvant::Arithmetic;
using kvant::Context;
using kvant::ErrorCode;
using kvant::Outliers;
using kvant::models::Model;
using kvant::models::Request;
using kvant::test::code_of;
using kvant::test::logits_of;
using kvant::test::relative_error;
using Ids = std::vector<kvant::models::TokenId>;

/// Trained: it has features of 6 and more.
const std::filesystem::path kTrained = kvant::test::kTinyCode / "model";
const Ids kTrainedIds = {5, 17, 300, 42, 9, 77, 250, 3, 11, 64, 128, 7};

Request request_of(const char* scheme) {
  Request request;
  request.scheme = kvant::models::scheme_from_name(scheme);
  return request;
}

Model load_trained(Context& context, const Request& request, const Ids& calibration = {}) {
  const kvant::models::Config config = kvant::models::load_config(kTrained / "config.json");
  kvant::models::LoadOptions options;
  options.plan = make_plan(config, request);
  options.calibration_ids = calibration;
  return load_model(context, kTrained, config, options);
}

}  // namespace

TEST_CASE("outliers: int8 products of other formats lose what no threshold keeps apart") {
  Context context;
  for (const char* scheme : {"int4", "nf4", "int8-group"}) {
    INFO(scheme);
    Request request = request_of(scheme);
    request.arithmetic = Arithmetic::exact;
    const auto exact = logits_of(context, load_trained(context, request), kTrainedIds);
    request = request_of(scheme);
    const Model with = load_trained(context, request);
    CHECK_FALSE(with.rows_are_independent);
    request.threshold = 0.0f;
    const Model without = load_trained(context, request);
    CHECK(without.rows_are_independent);
    const double kept = relative_error(logits_of(context, with, kTrainedIds), exact);
    const double lost = relative_error(logits_of(context, without, kTrainedIds), exact);
    INFO(kept << " with, " << lost << " without");
    CHECK(kept < 0.7 * lost);
  }
}

TEST_CASE("outliers by rows: a row's result does not depend on the others of its call") {
  Context context;
  for (const char* scheme : {"int4", "llm-int8"}) {
    INFO(scheme);
    Request request = request_of(scheme);
    request.outliers = Outliers::per_row;
    const Model model = load_trained(context, request);
    CHECK(model.rows_are_independent);
    const auto all = logits_of(context, model, kTrainedIds);
    const auto few = logits_of(context, model, {kTrainedIds.begin(), kTrainedIds.begin() + 5});
    CHECK(std::equal(few.begin(), few.end(), all.begin()));
  }
}

TEST_CASE("outliers: a text that shows them keeps their weights beside the codes") {
  Context context;
  for (const char* scheme : {"int4", "nf4"}) {
    INFO(scheme);
    const Model plain = load_trained(context, request_of(scheme));
    Request request = request_of(scheme);
    request.calibration_text = true;
    const Model kept = load_trained(context, request, kTrainedIds);
    CHECK(kept.weight_bytes() > plain.weight_bytes());
    const auto floats = logits_of(context, load_trained(context, request_of("fp32")), kTrainedIds);
    const double before = relative_error(logits_of(context, plain, kTrainedIds), floats);
    const double after = relative_error(logits_of(context, kept, kTrainedIds), floats);
    INFO(after << " with kept weights, " << before << " without");
    CHECK(after < before);
  }
}

TEST_CASE("outliers: wishes that mean nothing are refused") {
  const kvant::models::Config config = kvant::models::load_config(kTrained / "config.json");
  const auto refused = [&](Request request) {
    return code_of([&] { (void)make_plan(config, request); }) == ErrorCode::invalid_argument;
  };
  const auto with = [](const char* scheme, auto change) {
    Request request = request_of(scheme);
    change(request);
    return request;
  };
  CHECK(refused(with("fp32", [](Request& r) { r.threshold = 6.0f; })));
  CHECK(refused(with("fp32", [](Request& r) { r.outliers = Outliers::per_row; })));
  CHECK(refused(with("fp8", [](Request& r) { r.threshold = 6.0f; })));
  CHECK(refused(with("int4", [](Request& r) {
    r.arithmetic = Arithmetic::exact;
    r.threshold = 6.0f;
  })));
  CHECK(refused(with("int4", [](Request& r) {
    r.threshold = 0.0f;
    r.calibration_text = true;
  })));
  CHECK(refused(with("llm-int8", [](Request& r) {
    r.mode = Arithmetic::bitsandbytes;
    r.outliers = Outliers::per_row;
  })));
  const auto plan = make_plan(config, with("int4", [](Request& r) { r.threshold = 3.5f; }));
  CHECK(plan.threshold == 3.5f);
  CHECK(make_plan(config, request_of("int4")).threshold == 6.0f);
  CHECK(make_plan(config, request_of("fp32")).threshold == 0.0f);
}
