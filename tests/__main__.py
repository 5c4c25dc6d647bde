"""`python -m tests`: what scripts/test runs."""

import sys

from tests.support.checks import main

try:
    raise SystemExit(main(sys.argv[1:]))
except KeyboardInterrupt:
    raise SystemExit(130) from None
