#!/usr/bin/env bash
# Writes the man page and the shell completions for the packages:
#   manual.sh DIRECTORY
set -euo pipefail
cd "$(dirname "$0")/.."
name=azure-secure-score-exporter
target=$1
tmp=$(mktemp -d)
trap 'rm -rf "$tmp"' EXIT

version=$(git describe --tags --always --dirty 2>/dev/null || echo unknown)
go build -ldflags "-X github.com/prometheus/common/version.Version=${version#v}" -o "$tmp/$name" .
rm -rf "$target"
mkdir -p "$target"
"$tmp/$name" --help-man >"$target/$name.1"
# The name and time of the file would differ in every build.
gzip --best --no-name "$target/$name.1"
for shell in bash zsh; do
  "$tmp/$name" "--completion-script-$shell" >"$target/$name.$shell"
done
chmod -R u=rwX,go=rX "$target"
