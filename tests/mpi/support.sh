# Sourced: SCRIPT.sh KVANT SOURCE_DIR MPIRUN...
set -euo pipefail
kvant=$1 source=$2
shift 2
mpirun=("$@")
model=$source/examples/models/tiny-code-model/model
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"

die() { echo "$1" >&2; exit 1; }
# figure FILE KEY: all values of a key.
figures() { grep -o "\"$2\": [0-9]*" "$1" | grep -o '[0-9]*$'; }
