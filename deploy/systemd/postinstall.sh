#!/bin/sh
# It is not enabled: first it needs a credential. One that runs already gets the new version.
set -e
[ -d /run/systemd/system ] || exit 0
systemctl daemon-reload
systemctl try-restart azure-secure-score-exporter.service
