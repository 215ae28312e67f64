"""A mount's life: start, readiness, registry, status, log, watching for changes, end."""
