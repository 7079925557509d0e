#!/usr/bin/env bash
# Saves the licences and notices of all modules in the released binaries:
#   licenses.sh DIRECTORY
set -euo pipefail
cd "$(dirname "$0")/.."
target=$1
tmp=$(mktemp -d)
trap 'rm -rf "$tmp"' EXIT

GOBIN=$tmp go install github.com/google/go-licenses@v1.6.0
rm -rf "$target"
mkdir -p "$target"
for os in linux darwin windows; do
  # It warns that it cannot see the dependencies of assembly code. That code has none.
  GOOS=$os CGO_ENABLED=0 GOFLAGS=-buildvcs=false "$tmp/go-licenses" save . --save_path "$tmp/$os" \
    --ignore github.com/azure-secure-score-exporter/azure-secure-score-exporter 2>"$tmp/log" || { cat "$tmp/log" >&2; exit 1; }
  cp -R "$tmp/$os/." "$target"
done
# Every binary also contains Go itself.
mkdir -p "$target/go"
cp "$(go env GOROOT)/LICENSE" "$target/go/LICENSE"
chmod -R u=rwX,go=rX "$target"
