"""The command ``geoalign``: its options, and what each subcommand does."""
