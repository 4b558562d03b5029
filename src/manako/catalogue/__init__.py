"""What people want to know about checkpoints, as data: one TOML file per group."""
