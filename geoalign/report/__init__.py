"""Tables, figures and significance from result files."""
