"""What a team shares: remotes and caches of DVC, with what DVC leaves to chance made safe. See docs/teams.md."""
