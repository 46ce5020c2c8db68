// kvant: quantizes model checkpoints. Dispatches to the subcommands; the library does the work.
//
// Exit codes: 0, 1 (a file, the model, the machine, interrupted), 2 (the command line).

#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <csignal>
#include <cstdio>
#include <exception>
#include <iostream>
#include <new>
#include <string>
#include <string_view>

#include "command_line.hpp"
#include "commands.hpp"
#include "kvant/error.hpp"
#include "kvant/version.hpp"
#include "ranks.hpp"

namespace {

using kvant::program::Arguments;

struct Command {
  const char* name;
  const char* summary;
  int (*run)(const Arguments&);
  bool by_ranks = false;  ///< several processes of an mpirun may share the work
};

constexpr std::array kCommands = {
    Command{"run", "run a language model: chat, continue a text, measure perplexity",
            kvant::program::run_command, true},
    Command{"quantize", "write a smaller checkpoint (8 and 4 bits, fp8, fp16, bf16)",
            kvant::program::quantize_command, true},
    Command{"calibrate", "measure what the layers of a model read, for gptq, awq and smoothquant",
            kvant::program::calibrate_command, true},
    Command{"dequantize", "write a float checkpoint from a quantized one",
            kvant::program::dequantize_command},
    Command{"convert", "write a GGUF file, a folder from one, or GPTQ as AWQ, without loss",
            kvant::program::convert_command},
    Command{"merge", "write a LoRA adapter into the floats of a model",
            kvant::program::merge_command},
    Command{"inspect", "list tensors, shapes, schemes and the footprint",
            kvant::program::inspect_command},
    Command{"report", "compare a model with its quantized form, or show what its layers read",
            kvant::program::report_command},
    Command{"verify", "check every byte, and list what is wrong", kvant::program::verify_command},
    Command{"select", "choose formats per layer under a budget of error, size or perplexity",
            kvant::program::select_command},
};

void print_help() {
  std::cout << "Examples:\n"
               "  kvant run MODEL --scheme llm-int8 --chat 'What is a cache line?'\n"
               "  kvant quantize MODEL OUT --scheme llm-int8\n"
               "  kvant report MODEL OUT --html report.html\n"
               "  kvant dequantize OUT BACK --dtype fp16\n"
               "  kvant convert MODEL model.gguf --type q4_k\n\n"
               "MODEL is a folder in Hugging Face form: config.json and safetensors files.\n\n"
               "Commands (each has --help):\n";
  for (const Command& command : kCommands) {
    std::string name = command.name;
    name.resize(std::max<std::size_t>(name.size(), 12), ' ');
    std::cout << "  " << name << command.summary << "\n";
  }
  std::cout << "\nkvant " << KVANT_VERSION_STRING
            << ". Exit codes: 0 done, 1 failed, 2 wrong command "
            << "line.\n";
}

/// A standard stream that is closed would lend its number to the next file that is opened, and what
/// is printed would go into that file.
/// @return standard output was closed
bool open_standard_streams() {
  bool no_output = false;
  for (const int stream : {STDIN_FILENO, STDOUT_FILENO, STDERR_FILENO}) {
    if (::fcntl(stream, F_GETFD) >= 0 || errno != EBADF) continue;
    no_output = no_output || stream == STDOUT_FILENO;
    // The lowest free number is this one.
    static_cast<void>(::open("/dev/null", stream == STDIN_FILENO ? O_RDONLY : O_WRONLY));
  }
  return no_output;
}

/// Bytes from `at` on that a terminal would obey instead of showing them: controls of ASCII, those
/// of U+0080 to U+009F, and the marks that turn the direction of writing. 0: none.
std::size_t control_at(std::string_view text, std::size_t at) {
  const auto byte = [&](std::size_t i) {
    return at + i < text.size() ? static_cast<unsigned char>(text[at + i]) : 0u;
  };
  if (byte(0) < 0x20 || byte(0) == 0x7F) return 1;
  if (byte(0) == 0xC2 && byte(1) >= 0x80 && byte(1) < 0xA0) return 2;
  if (byte(0) != 0xE2) return 0;
  const bool turns = (byte(1) == 0x80 && (byte(2) == 0x8E || byte(2) == 0x8F ||
                                          (byte(2) >= 0xAA && byte(2) <= 0xAE))) ||
                     (byte(1) == 0x81 && byte(2) >= 0xA6 && byte(2) <= 0xA9);
  return turns ? 3 : 0;
}

/// One line, whatever the message holds.
int fail(const std::string& message, int code) {
  std::string line = "kvant: ";
  for (std::size_t at = 0; at < message.size();) {
    const std::size_t control = control_at(message, at);
    line += control > 0 ? ' ' : message[at];
    at += std::max<std::size_t>(control, 1);
  }
  std::fprintf(stderr, "%s\n", line.c_str());
  kvant::program::abandon_ranks(message);  // rank 0 has spoken for all, or is told now
  return code;
}

std::string joined(const Arguments& words) {
  std::string text;
  for (const std::string& word : words) text += (text.empty() ? "" : " ") + word;
  return text;
}

int run(const Arguments& words) {
  if (words.empty()) {
    print_help();
    return 2;
  }
  if (words[0] == "--help" || words[0] == "-h" || words[0] == "help") {
    print_help();
    return 0;
  }
  if (words[0] == "--version") {
    std::cout << "kvant " << KVANT_VERSION_STRING << "\n";
    return 0;
  }
  for (const Command& command : kCommands) {
    if (words[0] != command.name) continue;
    if (kvant::program::job_ranks() != nullptr && !command.by_ranks) {
      throw kvant::Error(
          kvant::ErrorCode::unsupported,
          "kvant " + words[0] + " is a job for one process; start it without mpirun");
    }
    return command.run(Arguments(words.begin() + 1, words.end()));
  }
  throw kvant::program::UsageError("there is no command " + words[0].substr(0, 40) +
                                   " (try kvant --help)");
}

}  // namespace

int main(int argc, char** argv) {
  const bool no_output = open_standard_streams();
  // A file above its size limit, or a closed pipe, is an error to report, not the end.
  std::signal(SIGXFSZ, SIG_IGN);
  std::signal(SIGPIPE, SIG_IGN);
  try {
    const Arguments words(argv + std::min(argc, 1), argv + argc);
    kvant::program::join_ranks(joined(words));
    const int code = run(words);
    kvant::program::leave_ranks();
    std::cout.flush();
    const bool lost = std::fflush(stdout) != 0 || !std::cout;
    if (kvant::program::result_is_written()) {
      // What was asked for is there; nobody needs the summary to believe it.
      if (lost) std::fprintf(stderr, "kvant: warning: cannot write to standard output\n");
      return code;
    }
    if (lost || no_output) return fail("cannot write to standard output", 1);
    return code;
  } catch (const kvant::program::UsageError& error) {
    return fail(error.what(), 2);
  } catch (const kvant::Error& error) {
    // What the library calls an invalid argument came from the command line.
    return fail(kvant::program::message_of(error),
                error.code() == kvant::ErrorCode::invalid_argument ? 2 : 1);
  } catch (const std::bad_alloc&) {
    return fail("out of memory", 1);
  } catch (const std::exception& error) {
    return fail(error.what(), 1);
  }
}
