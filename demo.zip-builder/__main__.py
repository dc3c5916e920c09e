"""``python demo.zip-builder``, which make demo.zip calls."""

import sys

from build import main

sys.exit(main())
