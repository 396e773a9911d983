#!/usr/bin/env bash
# Every stage on speechocean762, non-native English (OpenSLR 101). Options are those of ../../run.sh.
# Usage: ./run.sh [options]        ./run.sh --help lists them, README.md says what to expect
here=$(realpath -- "$(dirname -- "${BASH_SOURCE[0]}")") || exit 1
exec "${here%/*/*}/run.sh" --corpus-dir "$here" "$@"
