"""The warm start: captured entries are kept on disk, and a later process runs them without tracing or compiling."""
