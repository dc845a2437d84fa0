"""``geoalign train`` of a checkout."""

from geoalign.cli.train import main

if __name__ == "__main__":
    main()
