#pragma once

// Families with encoders: BERT, RoBERTa, T5.

#include "models/load/families.hpp"

namespace kvant::models {

void bert(const ConfigReader& reader, Config& config);
void roberta(const ConfigReader& reader, Config& config);
void t5(const ConfigReader& reader, Config& config);

}  // namespace kvant::models
