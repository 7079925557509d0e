#!/usr/bin/env bash
# Prints the section of a version in CHANGELOG.md, and fails if there is none:
#   release-notes.sh 1.2.3
set -euo pipefail
cd "$(dirname "$0")/.."
notes=$(awk -v version="$1" '/^## / {found = ($2 == version); next} found' CHANGELOG.md)
[ -n "${notes//[[:space:]]/}" ] || { echo "CHANGELOG.md has no section \"## $1 / DATE\"" >&2; exit 1; }
printf '%s\n' "$notes"
