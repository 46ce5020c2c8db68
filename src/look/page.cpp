#include "look/page.hpp"

#include <cmath>

#include "look/markup.hpp"
#include "look/text_table.hpp"

namespace kvant::look {
namespace {

constexpr const char* kHead = R"(<meta name="viewport" content="width=device-width">
<style>
body{font-family:system-ui,'DejaVu Sans',sans-serif;margin:2em auto;max-width:1100px;padding:0 1em;
color:#111827;background:#fff}
h1{font-size:1.4em}
svg{max-width:100%;height:auto}
table{border-collapse:collapse;font-size:.85em;width:100%}
th,td{padding:.3em .6em;text-align:right;border-bottom:1px solid #e5e7eb;white-space:nowrap}
th{cursor:pointer;background:#f3f4f6;position:sticky;top:0}
th:hover{background:#e5e7eb}
td:first-child{font-family:'DejaVu Sans Mono',Menlo,Consolas,monospace}
tfoot td{font-weight:bold}
.figures{display:flex;flex-wrap:wrap;gap:2em;margin:1em 0}
.figures b{display:block;font-size:1.3em}
</style>
)";

constexpr const char* kScript = R"(<script>
document.querySelectorAll('th').forEach(function (head) {
  var down = false, column = head.cellIndex;
  head.addEventListener('click', function () {
    var body = head.closest('table').querySelector('tbody');
    var rows = Array.prototype.slice.call(body.rows);
    var key = function (row) { return row.cells[column].dataset.v; };
    rows.sort(function (a, b) {
      var x = key(a), y = key(b), m = parseFloat(x), n = parseFloat(y);
      if (isNaN(m) || isNaN(n)) return x < y ? -1 : x > y ? 1 : 0;
      return m - n;
    });
    if (down) rows.reverse();
    down = !down;
    rows.forEach(function (row) { body.appendChild(row); });
  });
});
</script>
)";

}  // namespace

std::string page_start(std::string_view title, std::string_view style, int text_columns) {
  const std::string text = escape_markup(title);
  const std::string columns = "nth-child(-n+" + std::to_string(text_columns) + ")";
  return "<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n<title>" + text +
         "</title>\n" + kHead + "<style>td:" + columns + ",th:" + columns +
         "{text-align:left}</style>\n" + std::string(style) + "</head>\n<body>\n<h1>" + text +
         "</h1>\n";
}

std::string page_end() {
  return std::string(kScript) + "</body>\n</html>\n";
}

std::string sort_key(double value) {
  if (std::isinf(value)) return value > 0 ? "1e999" : "-1e999";
  return number_text(value, 17);
}

std::string cell(std::string_view text, std::string_view key) {
  return "<td data-v=\"" + escape_markup(key) + "\">" + escape_markup(text) + "</td>";
}

std::string figure(std::string_view title, std::string_view value) {
  return "<div>" + escape_markup(title) + "<b>" + escape_markup(value) + "</b></div>\n";
}

}  // namespace kvant::look
