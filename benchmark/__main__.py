"""`python -m benchmark`: what scripts/bench runs."""

from benchmark.main import main

raise SystemExit(main())
