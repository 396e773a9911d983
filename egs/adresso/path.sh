# The environment: the project's, or what your site adds to it.
. "$(dirname "${BASH_SOURCE[0]}")/../../path.sh"
