"""``python3 -m pydino VERB`` is the same as ``pydino VERB``."""

import sys

from pydino.cli import main

sys.exit(main())
