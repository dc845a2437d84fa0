"""``geoalign evaluate`` of a checkout."""

from geoalign.cli.evaluate import main

if __name__ == "__main__":
    main()
