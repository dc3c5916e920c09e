"""``python -m serving_kit``."""

import sys

from serving_kit.cli import main

sys.exit(main())
