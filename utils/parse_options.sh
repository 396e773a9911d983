#!/usr/bin/env bash
# Option parsing for every script here: source it, do not run it.  `. parse_options.sh`
#
# The options of a script are the variables it declares between the lines `# Begin configuration.` and
# `# End configuration.`, so an option, its default and its help are written once:
#
#     # Begin configuration.
#     nj=4              # number of parallel jobs
#     compress=true     # write compressed archives
#                       # (an indented comment continues the help; one at the margin is a heading)
#     # End configuration.
#
# `--num-jobs 8`, `--num-jobs=8` and `--num_jobs 8` set num_jobs. Where the default is true or false the value must
# be too, and a bare `--compress` means true. An option declared as an array, `corpus=()`, may be given several
# times. `--help` prints the script's header comment and a table of its options. `--` ends the options; the other
# arguments remain in "$@". Options come before the other arguments. `--config FILE` has no special meaning.
#
# A value is data: it is stored with printf, never evaluated. Every mistake ends the script with status 1.
# shellcheck disable=SC2317

_po_fail() {
  echo "$0: $1" >&2
  exit 1
}

# Read the declarations of the calling script into _po_names (in order), _po_help and _po_default.
_po_read_declarations() {
  local line inside=false name='' rest
  while IFS= read -r line || [[ -n $line ]]; do
    if [[ $line == '# Begin configuration'* ]]; then inside=true; continue; fi
    if [[ $line == '# End configuration'* ]]; then break; fi
    if [[ $inside == false ]]; then continue; fi
    if [[ $line =~ ^([A-Za-z_][A-Za-z0-9_]*)=(.*)$ ]]; then
      name=${BASH_REMATCH[1]} rest=${BASH_REMATCH[2]}
      if [[ $rest =~ ^(\"[^\"]*\"|\'[^\']*\'|\$\([^\)]*\)|\$\{[^}]*\}|[^[:space:]\"\'])*[[:space:]]+\#[[:space:]]*(.*)$ ]]; then
        rest=${BASH_REMATCH[2]}
      else
        rest=''
      fi
      _po_names+=("$name") _po_help[$name]=$rest _po_default[$name]=${!name-}
      if [[ $line == "$name=()"* ]]; then _po_is_array[$name]=true; fi
    elif [[ $line =~ ^[[:space:]]+\#[[:space:]]*(.*)$ && -n $name ]]; then
      _po_help[$name]+=$'\n'${BASH_REMATCH[1]}
    elif [[ $line =~ ^\#[[:space:]]*(.*)$ ]]; then
      _po_heading[${#_po_names[@]}]=${BASH_REMATCH[1]} name=''
    fi
  done <"$1"
}

_po_print_help() {
  local line i name width=0
  { IFS= read -r line || true
    while IFS= read -r line && [[ $line == '#'* && $line != '# Begin configuration'* ]]; do
      if [[ $line != '# shellcheck '* ]]; then line=${line#\#}; echo "${line# }"; fi
    done; } <"$1"
  echo
  echo "Options:"
  for name in "${_po_names[@]}"; do if ((${#name} > width)); then width=${#name}; fi; done
  for i in "${!_po_names[@]}"; do
    name=${_po_names[i]}
    if [[ -n ${_po_heading[i]-} ]]; then echo "  ${_po_heading[i]}"; fi
    line=${_po_help[$name]}
    printf "  --%-${width}s  %s(default: %s)\n" "${name//_/-}" "${line:+${line//$'\n'/ } }" "${_po_default[$name]:-\"\"}"
  done
}

# The declared name nearest to $1 by edit distance, as " (did you mean --x?)", or nothing.
_po_nearest() {
  printf '%s\n' "${_po_names[@]//_/-}" | awk -v want="${1//_/-}" '
    function distance(a, b,    i, j, cost, d) {
      for (i = 0; i <= length(a); i++) d[i, 0] = i
      for (j = 0; j <= length(b); j++) d[0, j] = j
      for (i = 1; i <= length(a); i++) for (j = 1; j <= length(b); j++) {
        cost = d[i-1, j-1] + (substr(a, i, 1) != substr(b, j, 1))
        if (d[i-1, j] + 1 < cost) cost = d[i-1, j] + 1
        if (d[i, j-1] + 1 < cost) cost = d[i, j-1] + 1
        d[i, j] = cost
      }
      return d[length(a), length(b)]
    }
    { cost = (index($0, want) == 1 && length(want) > 2) ? 1 : distance(want, $0)
      if (NR == 1 || cost < best) { best = cost; name = $0 } }
    END { if (NR && best <= (length(want) < 6 ? 2 : length(want) / 3)) printf " (did you mean --%s?)", name }'
}

# True when $1 is an option of this script: then it cannot be the value of another.
_po_is_option() {
  local name=${1%%=*}
  if [[ $name != --?* ]]; then return 1; fi
  name=${name#--}
  [[ $name == help || -n ${_po_default[${name//-/_}]+declared} ]]
}

_po_is_boolean() { # NAME
  [[ ${_po_default[$1]} == true || ${_po_default[$1]} == false ]]
}

_po_set() { # NAME VALUE
  local option="--${1//_/-}"
  if [[ $1 == cmd || $1 == *_cmd ]] && [[ -z $2 ]]; then _po_fail "empty argument to $option option"; fi
  if _po_is_boolean "$1" && [[ $2 != true && $2 != false ]]; then
    _po_fail "expected \"true\" or \"false\": $option $2"
  fi
  if [[ -n ${_po_is_array[$1]-} ]]; then
    local -n _po_array=$1
    _po_array+=("$2")
  else
    printf -v "$1" '%s' "$2"
  fi
}

declare -a _po_names=() _po_heading=()
declare -A _po_help=() _po_default=() _po_is_array=()
_po_read_declarations "${BASH_SOURCE[1]}"

while (($# > 0)); do
  case $1 in
    --) break ;;
    -h | --help) _po_print_help "${BASH_SOURCE[1]}"; exit 0 ;;
    --*)
      _po_name=${1#--} _po_name=${_po_name%%=*}
      if [[ ! $_po_name =~ ^[A-Za-z][A-Za-z0-9_-]*$ || -z ${_po_default[${_po_name//-/_}]+declared} ]]; then
        _po_fail "invalid option --$_po_name$(_po_nearest "$_po_name"); $0 --help lists the options"
      fi
      _po_name=${_po_name//-/_}
      if [[ $1 == *=* ]]; then
        _po_set "$_po_name" "${1#*=}"
      elif _po_is_boolean "$_po_name" && [[ -z ${2+given} || ${2-} == --* ]]; then
        _po_set "$_po_name" true
      elif (($# > 1)) && ! _po_is_option "$2" && [[ $2 != -- ]]; then
        _po_set "$_po_name" "$2"
        shift
      else
        _po_fail "option $1 needs a value${2:+, but the option $2 follows}"
      fi
      shift ;;
    -?*) _po_fail "invalid option $1: options are of the form --name value; $0 --help lists them" ;;
    *) break ;;
  esac
done

if [[ ${1-} == -- ]]; then
  shift
else
  for _po_name in "$@"; do
    if _po_is_option "$_po_name"; then
      _po_fail "option $_po_name comes after the argument $1: options come first (-- before $1 ends them)"
    fi
  done
fi
unset -v _po_names _po_heading _po_help _po_default _po_is_array _po_name
unset -f _po_fail _po_read_declarations _po_print_help _po_nearest _po_is_option _po_is_boolean _po_set
