"""python -m bento_trtllm: the command `bento-trtllm`, where the package is not installed."""

import sys

from bento_trtllm.swap.command_line import main

sys.exit(main())
