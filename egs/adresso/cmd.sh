# Where jobs run: the project's choice, or your site's own.
. "$(dirname "${BASH_SOURCE[0]}")/../../cmd.sh"
