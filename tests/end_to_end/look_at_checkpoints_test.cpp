// kvant inspect, verify, report and select, by running the program: exit codes, one line on stderr,
// hostile files, and the files that are written.

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "end_to_end/model_words.hpp"
#include "support/catch.hpp"
#include "support/child_process.hpp"
#include "support/golden.hpp"
#include "support/kvant_program.hpp"

namespace {

using kvant::test::data_path;
using kvant::test::kFp32Model;
using kvant::test::kvant_program;
using kvant::test::ProcessResult;
using kvant::test::TempFolder;
using nlohmann::json;

const std::string kInt8 = data_path("checkpoints/bnb_int8");

/// Fails with this code and one line.
void check_failure(const std::vector<std::string>& arguments, int code) {
  const ProcessResult result = kvant_program(arguments);
  std::string all;
  for (const std::string& argument : arguments) all += argument.substr(0, 80) + " ";
  INFO(all << "\n" << result.err);
  CHECK(result.exit_code == code);
  CHECK(std::count(result.err.begin(), result.err.end(), '\n') == 1);
  CHECK(result.err.find("kvant: ") == 0);
}

}  // namespace

TEST_CASE("kvant program: help with examples, and mistakes are exit code 2") {
  for (const char* command : {"inspect", "verify", "report", "select"}) {
    const ProcessResult help = kvant_program({command, "--help"});
    INFO(command);
    CHECK(help.exit_code == 0);
    CHECK(help.out.find("Examples:") != std::string::npos);
    CHECK(help.out.find(std::string("kvant ") + command) != std::string::npos);
    CHECK(help.err.empty());
    check_failure({command}, 2);
    check_failure({command, "a", "b", "c"}, 2);
    check_failure({command, kFp32Model, "--no-such-option"}, 2);
    CHECK(kvant_program({"--help"}).out.find(command) != std::string::npos);
  }
  check_failure({"select", kFp32Model, "--budget", "40 apples"}, 2);
  check_failure({"select", kFp32Model, "--budget", "5MB", "--total"}, 2);
  check_failure({"select", kFp32Model, "--budget", "40dB", "--int8", "int7"}, 2);
  check_failure({"report", kFp32Model, kInt8, "--threads", "0"}, 2);
  check_failure({"report", kFp32Model, "/nonexistent"}, 1);
  check_failure({"inspect", "/nonexistent"}, 1);
  check_failure({"verify", "/nonexistent"}, 1);
  check_failure({"report", kFp32Model, kInt8, "--svg", "/nonexistent/x.svg"}, 1);
}

TEST_CASE("kvant program: every golden safetensors file gets its verdict") {
  const TempFolder folder;
  const json verdicts = kvant::test::read_json("safetensors/verdicts.json");
  for (const char* list : {"files", "indexes"}) {
    for (const json& entry : verdicts.at(list)) {
      const std::string path = data_path("safetensors/" + entry.at("file").get<std::string>());
      INFO(path);
      const bool good = entry.at("kvant") == "accept";
      if (good) {
        const ProcessResult inspect = kvant_program({"inspect", path, "--json"});
        CHECK(inspect.exit_code == 0);
        CHECK(inspect.err.empty());
        CHECK(json::accept(inspect.out));
        CHECK(kvant_program({"inspect", path}).exit_code == 0);
        CHECK(kvant_program({"verify", path}).exit_code == 0);
      } else {
        // A tensor that the index lists and no shard holds may be tied: to look at it is allowed.
        if (entry.at("kvant_kind") == "missing_tensor") {
          const ProcessResult inspect = kvant_program({"inspect", path});
          CHECK((inspect.exit_code == 1 || inspect.out.find("warning: ") != std::string::npos));
        } else {
          check_failure({"inspect", path}, 1);
        }
        check_failure({"verify", path}, 1);
      }
      // Folders are what is quantized: none of these is a model.
      check_failure({"quantize", path, (folder.path() / "out").string()}, 1);
      CHECK(std::filesystem::is_empty(folder.path()));
    }
  }
}

TEST_CASE("kvant program: broken files inside model folders") {
  const json verdicts = kvant::test::read_json("safetensors/verdicts.json");
  const TempFolder folder;
  folder.write("config.json", R"({"model_type": "llama"})");
  int seen = 0;
  for (const json& entry : verdicts.at("files")) {
    if (entry.at("kvant") == "accept" || ++seen % 4 != 0) continue;  // a quarter suffices
    const std::string path = data_path("safetensors/" + entry.at("file").get<std::string>());
    INFO(path);
    folder.write("model.safetensors", kvant::test::read_text(path));
    check_failure({"inspect", folder.path().string()}, 1);
    check_failure({"verify", folder.path().string()}, 1);
    check_failure({"quantize", folder.path().string(), folder.path().string() + ".out"}, 1);
    CHECK_FALSE(std::filesystem::exists(folder.path().string() + ".out"));
  }
}

TEST_CASE("kvant program: report writes its table, JSON, picture and page") {
  const TempFolder folder;
  const std::string svg = (folder.path() / "r.svg").string();
  const std::string html = (folder.path() / "r.html").string();
  const ProcessResult table =
      kvant_program({"report", kFp32Model, kInt8, "--svg", svg, "--html", html});
  CHECK(table.exit_code == 0);
  CHECK(table.err.empty());
  CHECK(table.out.find("8 linear layers") != std::string::npos);
  CHECK(kvant::test::read_text(svg).find("</svg>") != std::string::npos);
  CHECK(kvant::test::read_text(html).find("</html>") != std::string::npos);
  const ProcessResult as_json = kvant_program({"report", kFp32Model, kInt8, "--json"});
  const json report = json::parse(as_json.out);
  CHECK(report.at("layers").size() == 8);
  CHECK(report.at("total").at("sqnr_db").get<double>() > 43);
}

TEST_CASE("kvant program: verify says what is wrong with codes that cannot be") {
  const TempFolder folder;
  std::filesystem::copy(kInt8, folder.path() / "model");
  const std::string model = (folder.path() / "model").string();
  CHECK(kvant_program({"verify", model}).exit_code == 0);
  // The sign of the first scale: SCB of the first layer comes first in the file.
  const std::string file = model + "/model.safetensors";
  std::string bytes = kvant::test::read_text(file);
  std::uint64_t header = 0;
  for (std::size_t i = 8; i-- > 0;) header = header << 8 | static_cast<unsigned char>(bytes[i]);
  bytes[static_cast<std::size_t>(8 + header + 3)] |= static_cast<char>(0x80);
  std::filesystem::remove(file);
  std::ofstream(file, std::ios::binary) << bytes;
  check_failure({"verify", model}, 1);
  CHECK(kvant_program({"verify", model}).out.find("error [scale]") != std::string::npos);
  const json findings = json::parse(kvant_program({"verify", model, "--json"}).out).at("findings");
  REQUIRE(findings.size() == 1);
  CHECK(findings[0].at("message").get<std::string>().find("1 negative scale") != std::string::npos);
  check_failure({"report", kFp32Model, model}, 1);
}

TEST_CASE("kvant program: select proposes, and writes what it proposed") {
  const TempFolder folder;
  const std::string out = (folder.path() / "out").string();
  const ProcessResult proposal = kvant_program({"select", kFp32Model, "--budget", "150000B"});
  CHECK(proposal.exit_code == 0);
  CHECK(proposal.out.find("kvant quantize") != std::string::npos);
  const ProcessResult written =
      kvant_program({"select", kFp32Model, "--budget", "150000B", "--write", out, "--json"});
  CHECK(written.exit_code == 0);
  const json plan = json::parse(written.out);
  CHECK(plan.at("bytes_after").get<std::uint64_t>() <= 150000);
  const json contents = json::parse(kvant_program({"inspect", out, "--json"}).out);
  CHECK(contents.at("footprint").at("stored").at("total") == plan.at("bytes_after"));
  CHECK(kvant_program({"verify", out}).exit_code == 0);
  check_failure({"select", kFp32Model, "--budget", "150000B", "--write", out, "--json"}, 1);
  CHECK(kvant_program({"select", kFp32Model, "--budget", "150000B", "--write", out, "--force"})
            .exit_code == 0);
}

TEST_CASE("kvant program: select shows the warnings of what it writes") {
  const TempFolder folder;
  const std::string model = (folder.path() / "model").string();
  std::filesystem::copy(kFp32Model, model);
  {
    const std::string config = model + "/config.json";
    std::ifstream in(config);
    json text = json::parse(in);
    text["model_type"] = "novel";
    std::ofstream(config) << text.dump();
  }
  const std::string out = (folder.path() / "out").string();
  const ProcessResult written =
      kvant_program({"select", model, "--budget", "40dB", "--write", out});
  CHECK(written.exit_code == 0);
  CHECK(written.err.find("kvant: warning: model_type \"novel\" is not known here") !=
        std::string::npos);
}
