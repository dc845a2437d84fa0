"""Download, unpack and verify datasets: ``python -m geoalign.data.prepare dataset=<name>``."""
