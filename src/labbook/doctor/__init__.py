"""Check the environment, DVC's configuration and locks, and all files in workspace, cache and remote. See docs/teams.md."""
