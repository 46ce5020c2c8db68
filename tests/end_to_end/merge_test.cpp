// kvant merge and kvant run --adapter: what they print and write, and exit codes.

#include <cmath>
#include <filesystem>
#include <kvant/io/safetensors.hpp>
#include <string>
#include <vector>

#include "support/catch.hpp"
#include "support/kvant_program.hpp"
#include "support/temp_folder.hpp"

using kvant::test::kvant_failure;
using kvant::test::kvant_program;
using kvant::test::ProcessResult;
using kvant::test::TempFolder;

TEST_CASE("kvant merge: the merged model is the model with its adapter") {
  using Catch::Matchers::Contains;
  const std::string data = KVANT_TEST_DATA;
  const std::string model = data + "/families/llama_bias";
  const std::string adapter = data + "/adapters/llama";
  const TempFolder folder;
  const std::string out = (folder.path() / "out").string();
  const ProcessResult dry = kvant_program({"merge", model, out, "--adapter", adapter, "--dry-run"});
  CHECK(dry.exit_code == 0);
  CHECK_THAT(dry.out, Contains("model.layers.1.mlp.down_proj") && Contains("nothing was written"));
  CHECK_FALSE(std::filesystem::exists(out));
  const ProcessResult made = kvant_program({"merge", model, out, "--adapter", adapter});
  INFO(made.err);
  REQUIRE(made.exit_code == 0);
  CHECK_THAT(made.out, Contains("6 linear layers merged"));
  CHECK_THAT(kvant_failure({"merge", model, out, "--adapter", adapter}, 1), Contains("--force"));
  CHECK(kvant_program({"merge", model, out, "--adapter", adapter, "--force"}).exit_code == 0);

  const auto logits = [&](std::vector<std::string> words) {
    const std::string file = (folder.path() / "logits").string();
    words.insert(words.begin(), "run");
    words.insert(words.end(), {"--ids", "5,6,7", "--logits", file});
    const ProcessResult result = kvant_program(words);
    INFO(result.err);
    REQUIRE(result.exit_code == 0);
    return kvant::io::SafeTensors(file).values<float>("logits");
  };
  const auto merged = logits({out});
  const auto beside = logits({model, "--adapter", adapter});
  REQUIRE(merged.size() == beside.size());
  bool near = true;
  for (std::size_t i = 0; i < merged.size(); ++i) {
    near = near && std::fabs(merged[i] - beside[i]) < 0.05f;  // merged weights are bf16 again
  }
  CHECK(near);
  CHECK(logits({model}) != beside);
  CHECK(logits({model, "--adapter", adapter, "--scheme", "nf4"}) !=
        logits({model, "--scheme", "nf4"}));

  kvant_failure({"merge", model, out}, 2);
  CHECK_THAT(kvant_failure({"merge", model, out + "2", "--adapter", model}, 1),
             Contains("adapter_config.json"));
  CHECK_THAT(
      kvant_failure({"run", data + "/families/gpt_neox", "--adapter", adapter, "--ids", "5"}, 1),
      Contains("another model"));
}
