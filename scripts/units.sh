#!/usr/bin/env bash
# Verifies the systemd units with the binary of "make build", and that they stay as
# hardened as deploy/systemd/README.md says.
set -euo pipefail
cd "$(dirname "$0")/.."
tmp=$(mktemp -d)
trap 'rm -rf "$tmp"' EXIT

cp deploy/systemd/*.socket "$tmp"
sed "s|/usr/bin/azure-secure-score-exporter|$PWD/azure-secure-score-exporter|" \
  deploy/systemd/azure-secure-score-exporter.service >"$tmp/azure-secure-score-exporter.service"
complaints=$(systemd-analyze verify "$tmp"/* 2>&1) || { echo "$complaints"; exit 1; }
[ -z "$complaints" ] || { echo "$complaints"; exit 1; }

documented=$(sed -nE 's/.*an exposure of ([0-9.]+),.*/\1/p' deploy/systemd/README.md)
# The threshold is in tenths: 11 for 1.1.
systemd-analyze security --offline=true --threshold="${documented/./}" "$tmp/azure-secure-score-exporter.service" | tail -1
