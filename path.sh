# The environment of every script: source it. Safe to source twice; never exits the caller's shell.
# The first use sets up .venv (utils/setup.sh says what it installs), and so does the first use after
# the required libraries have changed; PYDINO_NO_VENV=true uses the Python on PATH instead.
# shellcheck shell=bash
PYDINO_ROOT=$(realpath -- "$(dirname -- "${BASH_SOURCE[0]}")") || return 1
export PYDINO_ROOT
case $PYDINO_ROOT in *:*) echo "path.sh: $PYDINO_ROOT cannot be put on PATH, as it has a colon: rename the folder" >&2; return 1 ;; esac
if [ "${PYDINO_NO_VENV:-false}" != true ] && ! bash "$PYDINO_ROOT/utils/setup.sh" --check; then
  bash "$PYDINO_ROOT/utils/setup.sh" || return 1
fi
if [ "${PYDINO_NO_VENV:-false}" != true ]; then
  case :$PATH: in *":$PYDINO_ROOT/.venv/bin:"*) ;; *) PATH=$PYDINO_ROOT/.venv/bin:$PATH ;; esac
fi
case $PATH: in "$PYDINO_ROOT/utils:"*) ;; *) PATH=$PYDINO_ROOT/utils:$PATH ;; esac   # before Kaldi's utils, which have the same names
# A job may have been given PATH alone. An empty part of PYTHONPATH, as in
# PYTHONPATH=$PYTHONPATH:/my/code, would mean the current folder.
PYTHONPATH=:${PYTHONPATH:-}:
while [[ $PYTHONPATH == *::* ]]; do PYTHONPATH=${PYTHONPATH//::/:}; done
case $PYTHONPATH in *":$PYDINO_ROOT:"*) ;; *) PYTHONPATH=:$PYDINO_ROOT$PYTHONPATH ;; esac
PYTHONPATH=${PYTHONPATH#:}
PYTHONPATH=${PYTHONPATH%:}
# With CDPATH, `cd FOLDER` may change to another folder and print it: scripts unset it, an interactive
# shell keeps it.
case $- in *i*) ;; *) unset CDPATH ;; esac
# Kaldi's sort order for every tool, and UTF-8 for Python whatever the locale. Threads that wait sleep
# instead of spinning: on cores shared with other work, spinning makes small tensors ten times slower.
export PATH PYTHONPATH LC_ALL=C PYTHONUTF8=1 OMP_WAIT_POLICY=${OMP_WAIT_POLICY:-PASSIVE}
