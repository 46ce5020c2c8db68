// Converting reads and writes as it goes: no allocation as large as a tensor.

#include <bit>
#include <cstdint>
#include <filesystem>
#include <vector>

#include "io/largest_allocation.hpp"
#include "kvant/float16.hpp"
#include "kvant/io/checkpoint.hpp"
#include "kvant/io/convert_checkpoint.hpp"
#include "support/catch.hpp"
#include "support/checkpoint_builder.hpp"
#include "support/temp_folder.hpp"

TEST_CASE("convert: memory is that of scales, not of codes") {
  constexpr std::uint64_t kInputs = 8192;
  constexpr std::uint64_t kOutputs = 2048;
  constexpr std::uint64_t kGroups = kInputs / 128;
  kvant::test::CheckpointBuilder builder;
  builder.config(R"({"quantization_config": {"quant_method": "gptq", "bits": 4,
                     "group_size": 128, "checkpoint_format": "gptq_v2"}})");
  std::vector<std::int32_t> codes(kInputs / 8 * kOutputs);
  for (std::size_t i = 0; i < codes.size(); ++i)
    codes[i] = static_cast<std::int32_t>(i * 2654435761);
  builder.add<std::int32_t>("a.q_proj.qweight", {kInputs / 8, kOutputs}, codes);
  builder.add<std::int32_t>("a.q_proj.qzeros", {kGroups, kOutputs / 8},
                            std::vector<std::int32_t>(kGroups * kOutputs / 8, 0x76543210));
  builder.add<kvant::float16>(
      "a.q_proj.scales", {kGroups, kOutputs},
      std::vector<kvant::float16>(kGroups * kOutputs, kvant::float16(0.5f)));
  const std::filesystem::path model = builder.write();
  const kvant::test::TempFolder folder;
  kvant::test::largest_allocation() = 0;
  kvant::io::convert_checkpoint(model, folder.path() / "awq",
                                {.to = kvant::io::GroupForm::awq, .job = {.threads = 2}});
  // Big-endian machines hold a copy of each file.
  constexpr bool kMaps = std::endian::native == std::endian::little;
  CHECK((!kMaps || kvant::test::largest_allocation() <= 2u << 20));  // of 8 MiB of codes
  kvant::io::convert_checkpoint(folder.path() / "awq", folder.path() / "back",
                                {.to = kvant::io::GroupForm::gptq, .job = {.threads = 2}});
  CHECK((!kMaps || kvant::test::largest_allocation() <= 2u << 20));
  CHECK(kvant::io::Checkpoint(folder.path() / "back").values<std::int32_t>("a.q_proj.qweight") ==
        codes);
}
