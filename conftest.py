"""Every test, doctests too: the package's annotations are checked at run time, shapes and types alike.

Here and not as ``--jaxtyping-packages`` in addopts: xdist's workers would not see it, and nothing would be checked.
"""

import sys

from jaxtyping import install_import_hook

assert "geoalign" not in sys.modules, "imported before its annotations could be checked; import it later"
# the tower: a whole number is a float (PEP 484), as for mypy
install_import_hook("geoalign", "beartype.beartype(conf=beartype.BeartypeConf(is_pep484_tower=True))")
