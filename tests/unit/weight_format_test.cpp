// The table of weight formats: in the order of its enumeration, names that lead back, and the
// number of scales at the edges.

#include "kvant/weight_format.hpp"

#include <set>

#include "support/catch.hpp"

namespace kvant::test {

TEST_CASE("weight formats: the table is in order, its names are unique and lead back") {
  std::set<std::string_view> names;
  for (std::size_t i = 0; i < kWeightFormats; ++i) {
    const WeightFormatInfo& info = weight_format_table()[i];
    CHECK(static_cast<std::size_t>(info.format) == i);
    CHECK(&describe(info.format) == &info);
    CHECK(names.insert(info.name).second);
    CHECK(weight_format_from_name(info.name) == info.format);
    const int wide = info.bits == 3 ? 4 : info.bits == 5 || info.bits == 6 ? 8 : info.bits;
    CHECK(describe(info.codes).bits == wide);
    CHECK(describe(info.kernels).kernels == info.kernels);
    CHECK(info.is_float() == (info.codebook == Codebook::linear && info.bits >= 16));
  }
  CHECK_FALSE(weight_format_from_name("int9").has_value());
  CHECK(weight_format_of(DType::bfloat16) == WeightFormat::bfloat16);
  CHECK_FALSE(weight_format_of(DType::int8).has_value());
}

TEST_CASE("weight formats: scales of short blocks, of blocks that cross rows, of nothing") {
  const WeightFormatInfo& row = describe(WeightFormat::int8_row);
  const WeightFormatInfo& group = describe(WeightFormat::int8_group);
  const WeightFormatInfo& nf4 = describe(WeightFormat::nf4);
  CHECK(row.scales(3, 130, row.block) == 3);
  CHECK(group.scales(3, 130, group.block) == 6);
  CHECK(group.scales(3, 128, 128) == 3);
  CHECK(nf4.scales(3, 130, nf4.block) == 7);
  CHECK(nf4.scales(0, 130, 64) == 0);
  CHECK(describe(WeightFormat::bfloat16).scales(3, 130, 0) == 0);
}

}  // namespace kvant::test
