// kvant run --device: the program with the emulated device in place of a real one, and as it is.

#include <nlohmann/json.hpp>

#include "kvant/isa.hpp"
#include "support/child_process.hpp"
#include "support/kvant_program.hpp"
#include "support/temp_folder.hpp"

namespace kvant::test {
namespace {

using Catch::Matchers::Contains;
using nlohmann::json;

const std::string kLlamaFolder = std::string(KVANT_TEST_DATA) + "/families/llama_rope3";

/// kvant run with the emulated device.
ProcessResult run_emulated(std::vector<std::string> words) {
  words.insert(words.begin(),
               {std::string(KVANT_PROGRAM_DIR) + "/kvant_emulated_device", "run", kLlamaFolder});
  return run_process(words);
}

std::string emulated_failure(const std::vector<std::string>& words, int code) {
  const ProcessResult result = run_emulated(words);
  INFO(result.err);
  CHECK(result.exit_code == code);
  CHECK(result.out.empty());
  CHECK(std::count(result.err.begin(), result.err.end(), '\n') == 1);
  return result.err;
}

}  // namespace

TEST_CASE("kvant run --device: the same ids, and where the layers are") {
  const TempFolder folder;
  const std::string out = (folder.path() / "json").string();
  const std::vector<std::string> words = {"--ids",    "5,6,7",    "--tokens", "8",
                                          "--scheme", "llm-int8", "--json",   out};
  const auto report = [&](std::vector<std::string> more) {
    more.insert(more.begin(), words.begin(), words.end());
    const ProcessResult result = run_emulated(more);
    INFO(result.err);
    REQUIRE(result.exit_code == 0);
    json found = json::parse(read_text(folder.path() / "json"));
    found["stderr"] = result.err;
    return found;
  };
  const json on_cpu = report({});
  CHECK_FALSE(on_cpu.contains("device"));
  CHECK(on_cpu.at("stderr") == "");

  const json all = report({"--device", "cuda"});
  CHECK(all.at("generated_ids") == on_cpu.at("generated_ids"));
  CHECK(all.at("weight_bytes") == on_cpu.at("weight_bytes"));
  const json& device = all.at("device");
  CHECK(device.at("name") == "emulated device");
  CHECK(device.at("on_device").at("layers") == 14);
  CHECK(device.at("on_cpu") == json({{"layers", 0}, {"bytes", 0}}));
  CHECK(device.at("reasons").empty());
  CHECK(device.at("layers").size() == 14);
  CHECK(device.at("layers")[0].at("name") == "model.layers.0.self_attn.q_proj");
  CHECK(device.at("layers")[0].at("device") == "emulated device");
  CHECK_THAT(all.at("stderr").get<std::string>(), Contains("[emulated device: 14 layers, ") &&
                                                      Contains(" for calls, of ") &&
                                                      Contains("[CPU: 0 layers, 0 bytes]\n"));

  const std::uint64_t half = device.at("call_bytes").get<std::uint64_t>() +
                             device.at("on_device").at("bytes").get<std::uint64_t>() / 2;
  const json some = report({"--device", "auto", "--device-memory", std::to_string(half), "--cpu",
                            "*.k_proj", "--cpu-fp32", "*.layers.0.*.v_proj"});
  const json& part = some.at("device");
  CHECK(part.at("limit_bytes") == half);
  CHECK(part.at("reasons").at("asked for") == 2);
  CHECK(part.at("reasons").at("in float") == 1);
  const auto without_room = part.at("reasons").at("no room").get<int>();
  CHECK(without_room > 0);
  CHECK(part.at("on_device").at("layers") == 14 - 3 - without_room);
  CHECK_THAT(some.at("stderr").get<std::string>(),
             Contains("2 asked for") && Contains("1 in float") &&
                 Contains(std::to_string(without_room) + " no room"));
  // The layer in float on the CPU is what --skip makes of it.
  CHECK(some.at("generated_ids") == report({"--skip", "*.layers.0.*.v_proj"}).at("generated_ids"));

  const auto map = folder.write("map", R"({"": "cpu", "model.layers.1": 0})").string();
  const json mapped = report({"--device", "cuda", "--device-map", map, "--quiet"});
  CHECK(mapped.at("device").at("on_device").at("layers") == 7);
  CHECK(mapped.at("stderr") == "");
  CHECK(mapped.at("generated_ids") == on_cpu.at("generated_ids"));
}

TEST_CASE("kvant run --device: perplexity and logits are those of the CPU") {
  const TempFolder folder;
  const auto logits = [&](std::vector<std::string> words) {
    const std::string out = (folder.path() / "logits").string();
    words.insert(words.end(), {"--ids", "5,6,7,8,9,10,11,12", "--scheme", "int8", "--logits", out});
    CHECK(run_emulated(words).exit_code == 0);
    return read_text(out);
  };
  CHECK(logits({"--device", "cuda"}) == logits({}));
}

TEST_CASE("kvant run --device: wrong words, maps and devices are one line") {
  const auto failure = [](std::vector<std::string> words, int code) {
    words.insert(words.begin(), {"--ids", "1", "--scheme", "int8"});
    return emulated_failure(words, code);
  };
  CHECK_THAT(failure({"--device", "gpu"}, 2), Contains("cpu, cuda, auto"));
  CHECK_THAT(failure({"--cpu", "*"}, 2), Contains("--cpu needs --device cuda"));
  CHECK_THAT(failure({"--device", "cpu", "--device-memory", "1GB"}, 2),
             Contains("--device-memory"));
  CHECK_THAT(failure({"--device", "cuda", "--device-memory", "much"}, 2), Contains("5GB"));
  CHECK_THAT(failure({"--device", "cuda", "--cpu", "*.q_projection"}, 2),
             Contains("model.layers.0.self_attn.q_proj"));
  const TempFolder folder;
  const auto map = [&](const std::string& contents, int code) {
    return failure({"--device", "cuda", "--device-map", folder.write("map", contents).string()},
                   code);
  };
  CHECK_THAT(map("[]", 1), Contains("not a JSON object"));
  CHECK_THAT(map(R"({"model.layers.0": "disk"})", 1), Contains("\"disk\""));
  CHECK_THAT(map(R"({"model.layers.0": 1})", 1), Contains("model.layers.0"));
  CHECK_THAT(map(R"({"model.layers.9": 0})", 2), Contains("no part of the model"));
  CHECK_THAT(map(R"({"model.layers.0.self_attn.q_proj.weight": "cpu"})", 2),
             Contains("no part of the model"));
  CHECK_THAT(map(R"({"model.layers.9.self_attn.attn_dropout": 0})", 2),
             Contains("no part of the model"));
  CHECK_THAT(map(R"({"a": 0, "a": 1})", 1), Contains("a"));
  CHECK_THAT(map("{\"a\":" + std::string(100'000, '[') + "}", 1), Contains("128"));
  CHECK_THAT(failure({"--device", "cuda", "--device-map", "/nonexistent"}, 1),
             Contains("/nonexistent"));
}

TEST_CASE("kvant run --device: the program as it is names the devices that there are") {
  bool here = false;
  for (const IsaInfo& device : device_kernel_sets()) here = here || device.available;
  if (here) return;
  CHECK_THAT(kvant_run_failure({kLlamaFolder, "--ids", "1", "--device", "cuda"}, 1),
             Contains("--device cuda: ") && Contains("there are: cpu"));
  const ProcessResult result = kvant_run(
      {kLlamaFolder, "--ids", "1", "--tokens", "2", "--device", "auto", "--scheme", "int8"});
  CHECK(result.exit_code == 0);
  CHECK(result.err == "[no device here: all on the CPU]\n");
}

}  // namespace kvant::test
