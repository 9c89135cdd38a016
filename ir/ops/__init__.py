"""The ops, each defined once."""
