"""The formats in which models write tool calls: each is read as it comes, and enforced by a grammar."""
