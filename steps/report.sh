#!/usr/bin/env bash
# Gather every result under EXP_ROOT into results.json, RESULTS.md and report.html. Rewritten at
# each call; unchanged figures are cached.
# Usage: steps/report.sh [options] EXP_ROOT      (--help lists the options)
#  e.g.: steps/report.sh --title mini exp
set -euo pipefail
. "$(dirname "${BASH_SOURCE[0]}")/../path.sh"
exec pydino report "$@"
