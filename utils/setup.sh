#!/usr/bin/env bash
# Make the Python environment .venv in the tree, pinned by constraints.txt. path.sh calls this on first use, and when what
# pyproject.toml or constraints.txt ask for has changed since.
# Usage: utils/setup.sh [EXTRA...]          EXTRA: an optional group of pyproject.toml, such as dev (what the tests need)
#        utils/setup.sh --check [EXTRA]     only tell, by the exit status, whether .venv is there and up to date
# PYDINO_TORCH chooses PyTorch's build: auto (default: cuda where nvidia-smi finds a GPU, else cpu), cpu, cuda, or anything
# pip understands, such as a wheel of your own. Where another build is installed, it is replaced.
# The Python of .venv is the python3 that is first on PATH: at least 3.11, from a module or conda where the system's is older.
set -Eeuo pipefail
root=$(realpath -- "$(dirname -- "${BASH_SOURCE[0]}")/..")
venv=$root/.venv
cpu_index=https://download.pytorch.org/whl/cpu
torch=$(grep '^torch==' "$root/constraints.txt")

# Print a digest of what is to be installed.
wanted() {
  { sed -n '/^dependencies = \[/,/^]/p; /^\[project.optional-dependencies]/,/^$/p' "$root/pyproject.toml"; cat "$root/constraints.txt"; } |
    sed 's/[[:space:]]*#.*//; /^$/d' | cksum
}
if [ "${1:-}" = --check ]; then
  read -r installed 2>/dev/null < "$venv/.ready${2:+.$2}" || [ -e "$venv/.ready${2:+.$2}" ] || exit 1
  [ -z "${installed:-}" ] || [ "$installed" = "$(wanted)" ]   # an empty file: set up before this digest was kept
  exit
fi

say() { echo "utils/setup.sh: $*" >&2; }
die() { say "$@"; exit 1; }
pip() { "$venv/bin/python" -Im pip --disable-pip-version-check install -q "$@" 2> >(grep -v '^WARNING: Location' >&2); }

# Print the CUDA packages that the default package index would install, if any.
cuda_packages() {
  local report; report=$(mktemp)
  pip --dry-run --report "$report" "$1" >&2 || die "PyTorch ($1) cannot be found by pip; is the internet, or a mirror, reachable?"
  grep -oE '"name": "(nvidia-[a-z0-9-]*|cuda-[a-z]*|triton)"' "$report" | cut -d'"' -f4 | sort -u | tr '\n' ' '
  rm -f "$report"
}

# Print which build of PyTorch is installed: cpu, cuda, or nothing.
build_of_torch() { "$venv/bin/python" -Ic 'import torch; print("cuda" if torch.version.cuda or torch.version.hip else "cpu")' 2>/dev/null; }

install_torch() {
  local choice=${PYDINO_TORCH:-auto}
  if [ "$choice" = auto ]; then
    if command -v nvidia-smi >/dev/null && nvidia-smi -L 2>/dev/null | grep -q GPU; then choice=cuda; else choice=cpu; fi
  fi
  case $choice in
    cuda) say "installing $torch with CUDA (an NVIDIA GPU is here, or PYDINO_TORCH=cuda); several GB"; pip "$torch" ;;
    cpu)
      if "$venv/bin/python" -Ic "import urllib.request as u; u.urlopen('$cpu_index/', timeout=10)" 2>/dev/null; then
        say "installing $torch for CPU from PyTorch's own index (about 200 MB)"
        pip --no-deps --index-url "$cpu_index" "$torch"
        return
      fi
      local brings; brings=$(cuda_packages "$torch")
      [ -z "$brings" ] || die "no GPU here, and PyTorch's CPU builds ($cpu_index) cannot be reached; the default index would install" \
        "several GB of CUDA ($brings). To accept that: PYDINO_TORCH=cuda. If you have a CPU wheel: PYDINO_TORCH=/path/to/torch.whl"
      say "installing $torch for CPU from the default index"
      pip "$torch" ;;
    *) say "installing PyTorch as set by PYDINO_TORCH: $choice"; pip "$choice" ;;
  esac
}

if [ ! -x "$venv/bin/python" ]; then
  python3 -Ic 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null || die "Python 3.11 or later is needed, and python3 on PATH is" \
    "$({ command -v python3 && python3 --version; } 2>&1 | paste -sd ' ' | grep . || echo missing). Put a later one first on PATH, such as" \
    "'module load python' (module avail python), or 'conda create -n pydino python=3.12 && conda activate pydino', and start again"
  bash "$root/utils/install_system_packages.sh" python3-venv
fi
[ -z "${PYDINO_SETUP_LOCKED:-}" ] && command -v flock >/dev/null && PYDINO_SETUP_LOCKED=1 exec flock "$root/pyproject.toml" bash "$0" "$@"
if [ ! -e "$venv/.ready" ]; then
  say "setting up $venv: PyTorch and the libraries of pyproject.toml (once; a few minutes; needs the package index)"
elif ! bash "$0" --check; then
  say "what pyproject.toml or constraints.txt ask for has changed since $venv was set up: installing it (needs the package index)"
fi
[ -x "$venv/bin/python" ] || python3 -Im venv "$venv"
build=$(build_of_torch) || install_torch
case ${PYDINO_TORCH:-auto}:$build in
  cuda:cpu | cpu:cuda)
    say "replacing the installed PyTorch, which is built for $build"
    "$venv/bin/python" -Im pip --disable-pip-version-check uninstall -q -y torch
    install_torch ;;
esac
[ "${PYDINO_TORCH:-auto}" != cuda ] || [ "$(build_of_torch)" = cuda ] || die "the package index provided a PyTorch without CUDA;" \
  "PYDINO_TORCH may also be a wheel, or a requirement as pip reads it: see https://pytorch.org/get-started/locally"
"$venv/bin/python" -I - "$root/pyproject.toml" "$@" > "$venv/requirements.txt" <<'PYTHON'
import sys, tomllib
project = tomllib.load(open(sys.argv[1], "rb"))["project"]
print(*project["dependencies"], *(line for extra in sys.argv[2:] for line in project["optional-dependencies"][extra]), sep="\n")
PYTHON
grep -v '^torch==' "$root/constraints.txt" > "$venv/constraints.txt"   # PyTorch is installed already, and may differ from the pinned version
pip -c "$venv/constraints.txt" -r "$venv/requirements.txt"
for extra in "" "$@"; do wanted > "$venv/.ready${extra:+.$extra}"; done
say "ready"
