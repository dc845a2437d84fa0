"""Labels that nobody gave: matches of features between photographs of one kind, as far as they agree."""
