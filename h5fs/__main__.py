"""``python -m h5fs`` is the ``h5fs`` command."""

import sys

from h5fs.cli import main

sys.exit(main())
