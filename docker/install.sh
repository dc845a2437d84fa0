#!/bin/sh
# docker/install.sh PYTHON EXTRAS   installs this folder with every version that was tested.
# make and both images call it, so what the images do is what every test run has done.
set -eu
cd "$(dirname "$0")/.."
exec "$1" -m pip install --disable-pip-version-check -c constraints.txt -e ".[$2]"
