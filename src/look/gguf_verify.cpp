#include <cmath>
#include <string>
#include <vector>

#include "io/text/quoting.hpp"
#include "kvant/error.hpp"
#include "kvant/io/gguf.hpp"
#include "look/gguf_look.hpp"
#include "look/verify_tensors.hpp"

namespace kvant::look {
namespace {

/// Rows that are expanded at a time are about that many values.

/// Values of a tensor that are no numbers: of a float type its own, of blocks those that a scale
/// spoils.
void verify_values(const io::Gguf& file, const io::TensorInfo& info, VerifyResult& result) {
  const io::GgufTensor& tensor = *file.find_gguf(info.name);
  if (tensor.type->dequantize == nullptr || info.bytes == 0) return;
  const auto cols = static_cast<std::int64_t>(tensor.shape.empty() ? 1 : tensor.shape.back());
  const auto elements =
      static_cast<std::int64_t>(info.bytes / tensor.type->bytes * tensor.type->elements);
  const std::int64_t rows = elements / cols;
  const std::int64_t step = std::max<std::int64_t>(1, kSliceElements / cols);
  std::vector<float> values(static_cast<std::size_t>(std::min(step, rows) * cols));
  std::uint64_t odd = 0;
  for (std::int64_t row = 0; row < rows; row += step) {
    const std::int64_t count = std::min(step, rows - row);
    file.dequantize(info.name, row, count, values.data());
    for (std::int64_t i = 0; i < count * cols; ++i) {
      odd += std::isfinite(values[static_cast<std::size_t>(i)]) ? 0u : 1u;
    }
    file.release(info.name);
  }
  if (odd == 0) return;
  const bool blocks = !tensor.type->dtype;
  add_finding(result, blocks ? io::Severity::error : io::Severity::warning,
              blocks ? "scale" : "not_finite",
              "tensor " + io::in_quotes(info.name) + " (" + std::string(tensor.type->name) +
                  ") holds " + std::to_string(odd) + " values that are NaN or infinite" +
                  (blocks ? ": scales of its blocks are" : ""));
}

/// What a reader of language models asks for first.
void verify_metadata(const io::Gguf& file, VerifyResult& result) {
  if (!file.text("general.architecture")) {
    add_finding(result, io::Severity::warning, "metadata",
                result.path +
                    ": general.architecture is missing: no program knows what model "
                    "this is");
  }
  const auto tokens = file.texts("tokenizer.ggml.tokens");
  const io::GgufTensor* table = file.find_gguf("token_embd.weight");
  if (tokens && table != nullptr && table->shape.size() == 2 && table->shape[0] != tokens->size()) {
    add_finding(result, io::Severity::warning, "metadata",
                result.path + ": tokenizer.ggml.tokens names " + std::to_string(tokens->size()) +
                    " tokens, token_embd.weight has " + std::to_string(table->shape[0]));
  }
}

}  // namespace

VerifyResult verify_gguf(const std::filesystem::path& path) {
  VerifyResult result;
  result.path = path.string();
  try {
    const io::Gguf file(path);
    result.files = 1;
    result.tensors = file.tensors().size();
    std::size_t unread = 0;
    for (const io::TensorInfo& info : file.tensors()) {
      result.bytes += info.bytes;
      const io::GgufType& type = *file.find_gguf(info.name)->type;
      unread += type.dequantize == nullptr && !type.dtype ? 1u : 0u;
      verify_values(file, info, result);
    }
    if (unread > 0) {
      add_finding(result, io::Severity::warning, "type",
                  result.path + ": " + std::to_string(unread) +
                      " tensors are of types whose values kvant does not read; they were not "
                      "looked at");
    }
    verify_metadata(file, result);
  } catch (const io::FormatError& error) {
    add_finding(result, io::Severity::error, to_string(error.kind()), error.what());
  }
  return result;
}

}  // namespace kvant::look
