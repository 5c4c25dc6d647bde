"""One model takes another's place in a running service, without a request that fails."""
