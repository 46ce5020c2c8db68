// llm_int8_skip_modules as transformers reads it.

#include "io/checkpoint/skip_modules.hpp"

#include <string>
#include <vector>

#include "support/catch.hpp"

using kvant::io::make_skip_modules;
using kvant::io::skips;

TEST_CASE("skip modules: an entry is a beginning up to a boundary, or an end") {
  CHECK(*skips("lm_head", "lm_head"));
  CHECK(*skips("lm_head", "lm_head.dense"));
  CHECK_FALSE(*skips("lm_head", "lm_heads"));
  CHECK(*skips("classifier", "pre_classifier"));
  CHECK(*skips("proj", "blocks.0.attn.proj"));
  CHECK_FALSE(*skips("layer.1", "layer.11.attn"));
  CHECK(*skips("layer.1", "layer.1.attn"));
  CHECK(*skips("layer.*", "layer.11.attn"));
  CHECK_FALSE(*skips("mlp.gate", "mlp.gate_proj"));
  CHECK(*skips("^lm_head$", "lm_head"));
  CHECK_FALSE(*skips("^lm_head$", "lm_head.dense"));
  CHECK(*skips("model\\.layers\\.\\d+\\.mlp", "model.layers.17.mlp.up_proj"));
  CHECK_FALSE(*skips("model\\.layers\\.\\d+\\.mlp", "model.layers.x.mlp.up_proj"));
  CHECK(*skips("a+b?c*", "aaac"));
  CHECK(*skips("model.", "model.x"));
  // Not looked into; as the end of a name it is one.
  CHECK_FALSE(skips("(a|b)", "a").has_value());
  CHECK(skips("(a|b)", "x(a|b)").value());
  CHECK_FALSE(skips("[", "a").has_value());
  CHECK_FALSE(skips("*", "a").has_value());
  // No expression takes longer than the product of both lengths.
  std::string hard;
  for (int i = 0; i < 2000; ++i) hard += "a*";
  CHECK_FALSE(*skips(hard + "b", std::string(2000, 'a')));
}

TEST_CASE("skip modules: a list keeps what must be kept, and nothing that is quantized") {
  using Names = std::vector<std::string>;
  CHECK(make_skip_modules({.keep = {"lm_head"}, .quantized = {"model.up_proj"}}) ==
        Names{"lm_head"});
  // Names that are also beginnings or ends of others.
  CHECK(make_skip_modules({.keep = {"lm_head"}, .quantized = {"lm_head.dense"}}) ==
        Names{"^lm_head$"});
  CHECK(make_skip_modules({.keep = {"proj"}, .quantized = {"blocks.0.attn.proj"}}) ==
        Names{"^proj$"});
  CHECK(make_skip_modules({.keep = {"classifier"}, .quantized = {"pre_classifier"}}) ==
        Names{"^classifier$"});
  // Loaded under other names: ends too, as short as can be.
  CHECK(make_skip_modules({.keep = {"language_model.model.layers.0.mlp.up_proj"},
                           .quantized = {"language_model.model.layers.10.mlp.up_proj",
                                         "language_model.model.layers.1.mlp.up_proj"},
                           .renamed = true}) ==
        Names{"language_model.model.layers.0.mlp.up_proj", "layers.0.mlp.up_proj"});
}
