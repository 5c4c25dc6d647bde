"""`python -m soak`: what scripts/soak runs."""

from soak.main import main

raise SystemExit(main())
