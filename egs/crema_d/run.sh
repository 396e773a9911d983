#!/usr/bin/env bash
# Emotion on CREMA-D, with models trained elsewhere. Options are those of ../../run.sh.
# Usage: ./run.sh [options]        ./run.sh --help lists them, README.md says what to expect
here=$(realpath -- "$(dirname -- "${BASH_SOURCE[0]}")") || exit 1
exec "${here%/*/*}/run.sh" --corpus-dir "$here" "$@"
