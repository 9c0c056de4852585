//! The plugin protocol: handshake, mutual TLS, values, schema, planner. Knows nothing of Incus.
