#!/usr/bin/env bash
# Run the tests. The first time it sets up what they need (see utils/setup.sh), on a bare machine too.
# Usage: tests/run.sh [arguments of pytest]        e.g.: tests/run.sh -k parity
# Without arguments, all tests are shared by processes (PYDINO_TEST_PROCESSES of them; default: cores + 2, as some tests
# wait rather than compute); with arguments they run in one, unless -n says otherwise.
# Real speech, for the tests marked realdata: PYDINO_REALDATA=/folder tests/run.sh (docs/testing.md says what lies in it)
set -Eeuo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
bash utils/install_system_packages.sh python3-venv sox espeak-ng shellcheck
# A cluster on loopback for the tests of Slurm, where the system's packages allow; elsewhere they are skipped, and say why.
bash utils/install_system_packages.sh slurm || echo "$0: going on without Slurm" >&2
. ./path.sh
[ "${PYDINO_NO_VENV:-false}" = true ] || bash utils/setup.sh --check dev || bash utils/setup.sh dev
unset OMP_NUM_THREADS   # which nproc would take for the number of cores
[ $# -gt 0 ] || set -- -n "${PYDINO_TEST_PROCESSES:-$(($(nproc) + 2))}" --durations 30
export OMP_NUM_THREADS=1
exec python3 -m pytest "$@"
