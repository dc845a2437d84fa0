"""What a run leaves behind: predictions, summaries, intervals."""
