#pragma once

// A page in a browser without a window: what it says of itself once its scripts have run.

#include <filesystem>
#include <string>

#include "support/child_process.hpp"
#include "support/temp_folder.hpp"

namespace kvant::test {

/// Chromium's path; empty: it is not here (Debian: chromium).
inline std::string browser_path() {
  for (const char* path :
       {"/usr/bin/chromium", "/usr/bin/chromium-browser", "/usr/bin/google-chrome"}) {
    if (std::filesystem::exists(path)) return path;
  }
  return {};
}

/// The page with `script` at its end, in a window of 1280 x 900, as HTML when all has run. Errors
/// of scripts are collected in window.errors.
inline std::string opened_page(const std::string& html, const std::string& script) {
  const TempFolder folder;
  std::string page = html;
  page.insert(page.find("</body>"), "<script>" + script + "</script>\n");
  page.insert(page.find("<head>") + 6,
              "<script>window.errors = [];"
              "window.onerror = function (text) { errors.push(String(text)); };</script>");
  const auto file = folder.write("page.html", page);
  // (--no-sandbox: tests may run as root; the page is this test's own. Virtual time ends the wait
  // for what scripts do later as soon as nothing is left to do.)
  return run_process(
             {"/usr/bin/timeout", "60", browser_path(), "--headless", "--no-sandbox",
              "--disable-gpu", "--disable-dev-shm-usage", "--no-first-run", "--disable-extensions",
              "--user-data-dir=" + (folder.path() / "profile").string(), "--window-size=1280,900",
              "--virtual-time-budget=4000", "--dump-dom", "file://" + file.string()})
      .out;
}

/// A browser is here, and runs: it may need what a container lacks.
inline bool browser_runs() {
  return !browser_path().empty() && opened_page("<html><head></head><body></body></html>",
                                                "document.body.textContent = 6 * 7 + ' is shown';")
                                            .find("42 is shown") != std::string::npos;
}

}  // namespace kvant::test
