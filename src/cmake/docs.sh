#!/usr/bin/env bash
# docs.sh DOXYGEN SOURCE_DIR OUTPUT_DIR: reference pages of everything public, in OUTPUT_DIR/html.
# Fails where Doxygen has a complaint: every type and every function of a namespace must be
# documented; members of types may speak for themselves.
set -euo pipefail
doxygen=$1 source=$2 output=$3
mkdir -p "$output"
cd "$source"
version=$(sed -n 's/.*KVANT_VERSION_STRING "\(.*\)"/\1/p' include/kvant/version.hpp)
log=$output/warnings.txt
# The front page is README.md without its links to files, which are not among the pages.
sed -E 's/\]\([a-z]+\/[A-Za-z_.\/]+\)/]/g' README.md >"$output/front.md"
"$doxygen" - 2>"$log" >/dev/null <<CONFIG
PROJECT_NAME           = kvant
PROJECT_NUMBER         = $version
PROJECT_BRIEF          = "Quantization for C++: small weights and fast low-bit matrix products"
OUTPUT_DIRECTORY       = $output
INPUT                  = $output/front.md src/numerics.md include
USE_MDFILE_AS_MAINPAGE = $output/front.md
RECURSIVE              = YES
FILE_PATTERNS          = *.hpp *.md
STRIP_FROM_INC_PATH    = include
EXCLUDE_SYMBOLS        = *::detail *::detail::*
GENERATE_LATEX         = NO
HAVE_DOT               = NO
JAVADOC_AUTOBRIEF      = YES
DISTRIBUTE_GROUP_DOC   = YES
MACRO_EXPANSION        = YES
PREDEFINED             = KVANT_API=
QUIET                  = YES
WARN_IF_INCOMPLETE_DOC = NO
CONFIG
complaints=$(grep -vE 'warning: Member .* of (class|struct|union) .* is not documented\.$' "$log" |
  sed "s|$source/||" || true)
if [ -n "$complaints" ]; then
  printf '%s\n' "$complaints" >&2
  exit 1
fi
echo "reference pages: $output/html/index.html"
