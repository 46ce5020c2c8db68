// What the element types can hold: limits, one third in each of them to 60 digits, what a downcast
// loses, and a dot product in fp32 and bf16.

#include <kvant/exact_decimal.hpp>
#include <kvant/finfo.hpp>
#include <kvant/float8.hpp>
#include <kvant/tf32.hpp>

#include <fmt/core.h>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <vector>

namespace {

template <class T>
double third() {
  return static_cast<double>(static_cast<float>(T(1.0f / 3.0f)));
}

// Numbers in [0, 1) from a fixed seed (SplitMix64).
std::vector<float> random_numbers(std::size_t count) {
  std::vector<float> numbers(count);
  std::uint64_t state = 0;
  for (float& number : numbers) {
    std::uint64_t z = (state += 0x9E3779B97F4A7C15u);
    z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9u;
    z = (z ^ (z >> 27)) * 0x94D049BB133111EBu;
    number = static_cast<float>((z ^ (z >> 31)) >> 40) * 0x1p-24f;
  }
  return numbers;
}

template <class T>
void print_downcast(const char* name, const std::vector<float>& numbers) {
  double largest = 0;
  double sum = 0;
  for (const float x : numbers) {
    const double error = std::abs(static_cast<double>(static_cast<float>(T(x))) - x);
    largest = std::max(largest, error);
    sum += error;
  }
  fmt::print("  {:<14} {:>12.3g} {:>12.3g}\n", name, largest,
             sum / static_cast<double>(numbers.size()));
}

}  // namespace

int main() {
  using kvant::DType;
  fmt::print("Integers\n");
  for (const DType dtype : {DType::uint8, DType::int8, DType::int16, DType::int32, DType::int64,
                            DType::int4, DType::uint4, DType::int2, DType::uint2}) {
    const kvant::IntInfo info = kvant::iinfo(dtype);
    fmt::print("  {:<6} {:>2} bits  {} to {}\n", kvant::to_string(dtype), info.bits, info.min,
               info.max);
  }

  fmt::print("\nFloats\n");
  for (const DType dtype :
       {DType::float64, DType::float32, DType::tf32, DType::float16, DType::bfloat16,
        DType::float8_e4m3fn, DType::float8_e5m2, DType::float8_e4m3fnuz, DType::float8_e5m2fnuz,
        DType::float8_e8m0fnu}) {
    fmt::print("  {}\n", kvant::to_string(kvant::finfo(dtype)));
  }

  fmt::print("\nOne third\n");
  const auto print_third = [](const char* name, double value) {
    fmt::print("  {:<14} {}\n", name, kvant::exact_decimal(value, 60));
  };
  print_third("float64", 1.0 / 3.0);
  print_third("float32", static_cast<double>(1.0f / 3.0f));
  print_third("tf32", third<kvant::tf32>());
  print_third("float16", third<kvant::float16>());
  print_third("bfloat16", third<kvant::bfloat16>());
  print_third("float8_e4m3fn", third<kvant::float8_e4m3fn>());
  print_third("float8_e5m2", third<kvant::float8_e5m2>());

  const std::vector<float> numbers = random_numbers(1000);
  fmt::print("\nDowncast of 1000 random numbers in [0, 1) from float32\n");
  fmt::print("  {:<14} {:>12} {:>12}\n", "to", "max error", "mean error");
  print_downcast<kvant::tf32>("tf32", numbers);
  print_downcast<kvant::float16>("float16", numbers);
  print_downcast<kvant::bfloat16>("bfloat16", numbers);
  print_downcast<kvant::float8_e4m3fn>("float8_e4m3fn", numbers);
  print_downcast<kvant::float8_e5m2>("float8_e5m2", numbers);

  fmt::print("\nFirst five in float32 and bfloat16\n");
  for (std::size_t i = 0; i < 5; ++i) {
    const auto low = static_cast<float>(kvant::bfloat16(numbers[i]));
    fmt::print("  {:.10f}  {:.10f}\n", numbers[i], low);
  }

  float dot32 = 0;
  float dot16 = 0;
  for (const float x : numbers) {
    const auto low = static_cast<float>(kvant::bfloat16(x));
    dot32 += x * x;
    dot16 += low * low;  // products of bfloat16 summed in fp32, rounded once
  }
  const auto rounded = static_cast<float>(kvant::bfloat16(dot16));
  fmt::print("\nDot product of these numbers with themselves\n");
  fmt::print("  float32   {:.6f}\n  bfloat16  {:.6f}   ({:+.3f} %)\n", dot32, rounded,
             100.0 * (static_cast<double>(rounded) / static_cast<double>(dot32) - 1));
}
