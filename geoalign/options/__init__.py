"""The options of the scripts: what there is, what was meant, and whether a value fits."""
