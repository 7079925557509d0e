#!/bin/sh
# deb passes "remove" and rpm "0" on removal, but not on an upgrade.
set -e
[ -d /run/systemd/system ] || exit 0
case $1 in
  remove | 0) systemctl disable --now azure-secure-score-exporter.service azure-secure-score-exporter.socket ;;
esac
