"""Is all well? Environment, DVC's configuration and locks, and every byte of workspace, cache and remote. See docs/teams.md."""
