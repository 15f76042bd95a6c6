//! The configuration as written in YAML; the only file that knows `serde_yaml`.
