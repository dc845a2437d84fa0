"""What pyproject.toml cannot say: a wheel carries the configs, which lie beside the package in a checkout."""

import shutil
from pathlib import Path

from setuptools import setup
from setuptools.command.build_py import build_py


class WithConfigs(build_py):
    """Puts ``conf/`` into the package of a wheel; an editable install reads them where they are."""

    def run(self) -> None:
        super().run()
        if not self.editable_mode:
            shutil.copytree("conf", Path(self.build_lib) / "geoalign" / "conf", dirs_exist_ok=True)


setup(cmdclass={"build_py": WithConfigs})
