"""Download, unpack and verify datasets: ``geoalign prepare dataset=<name>``."""
