#!/bin/sh
# deb says "remove" and rpm "0" when no version stays.
set -e
[ -d /run/systemd/system ] || exit 0
case $1 in
  remove | 0) systemctl disable --now azure-secure-score-exporter.service azure-secure-score-exporter.socket ;;
esac
