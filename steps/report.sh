#!/usr/bin/env bash
# Gather every result under EXP_ROOT into results.json, RESULTS.md and report.html. Written again at
# each call; figures that have not changed are kept.
# Usage: steps/report.sh [options] EXP_ROOT      (--help lists the options)
#  e.g.: steps/report.sh --title mini exp
set -euo pipefail
. "$(dirname "${BASH_SOURCE[0]}")/../path.sh"
exec pydino report "$@"
