#!/usr/bin/env bash
# Gather every result under EXP_ROOT into results.json, RESULTS.md and report.html. Written again at each call; figures that have not changed are kept.
# Usage: steps/report.sh [options] EXP_ROOT
#  e.g.: steps/report.sh --title mini exp
# Begin configuration.
title=      # heading of the report; default: the name of the recipe's folder
commands=   # text file with the commands that made the results, shown as it is
# End configuration.
set -Eeuo pipefail
echo "$0 $*" >&2
. "$(dirname "${BASH_SOURCE[0]}")/../path.sh"
. parse_options.sh

[ $# -eq 1 ] || { echo "$0: expected EXP_ROOT, got $# arguments; $0 --help tells more" >&2; exit 1; }
pydino report ${title:+--title "$title"} ${commands:+--commands "$commands"} "$1"
echo "$0: succeeded: $1/RESULTS.md and $1/report.html" >&2
