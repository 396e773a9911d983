# The environment of every script: source it. Safe to source twice; never exits the caller's shell.
# The first use sets up .venv (utils/setup.sh says what it installs); PYDINO_NO_VENV=true uses the Python that is on PATH instead.
# shellcheck shell=bash
PYDINO_ROOT=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd -P) || return 1
export PYDINO_ROOT
if [ ! -e "$PYDINO_ROOT/.venv/.ready" ] && [ "${PYDINO_NO_VENV:-false}" != true ]; then
  bash "$PYDINO_ROOT/utils/setup.sh" || return 1
fi
case ":$PATH:" in
  *":$PYDINO_ROOT/utils:"*) ;;
  *)
    if [ "${PYDINO_NO_VENV:-false}" = true ]; then PATH=$PYDINO_ROOT/utils:$PATH
    else PATH=$PYDINO_ROOT/utils:$PYDINO_ROOT/.venv/bin:$PATH; fi ;;
esac
case ":${PYTHONPATH:-}:" in   # a job may have been given PATH alone
  *":$PYDINO_ROOT:"*) ;;
  *) PYTHONPATH=$PYDINO_ROOT${PYTHONPATH:+:$PYTHONPATH} ;;
esac
# Kaldi's sort order for every tool, and UTF-8 for Python whatever the locale. Threads that wait sleep instead of spinning: on cores
# that are shared with other work, spinning makes small tensors ten times slower.
export PATH PYTHONPATH LC_ALL=C PYTHONUTF8=1 OMP_WAIT_POLICY=${OMP_WAIT_POLICY:-PASSIVE}
