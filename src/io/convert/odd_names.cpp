#include "io/convert/odd_names.hpp"

#include <array>
#include <string_view>

#include "io/text/quoting.hpp"

namespace kvant::io {

void warn_of_names(const CheckpointSource& source, std::vector<Warning>& warnings) {
  struct Trace {
    std::string_view part;
    const char* what;
  };
  constexpr std::array kTraces = {
      Trace{".lora_A.",
            "an adapter that is not merged; merge it into the model first "
            "(merge_and_unload)"},
      Trace{".base_layer.", "an adapter's base model; merge or unload the adapter first"},
      Trace{"_orig_mod.", "a model that was saved compiled; save the original module"}};
  for (const Trace& trace : kTraces) {
    for (const SourceTensor& tensor : source.tensors()) {
      if (tensor.info->name.find(trace.part) == std::string::npos) continue;
      warnings.push_back({WarningKind::odd_names, "tensor " + in_quotes(tensor.info->name) +
                                                      " is of " + trace.what +
                                                      ", or transformers will not find it"});
      break;
    }
  }
}

}  // namespace kvant::io
