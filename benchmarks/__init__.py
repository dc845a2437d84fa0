"""Speed and memory of every hot path, beside a plain transcription of the formula."""
