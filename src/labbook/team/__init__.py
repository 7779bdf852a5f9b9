"""Share results in a team through DVC remotes and caches, with checks that DVC lacks. See docs/teams.md."""
