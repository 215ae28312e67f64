"""``python -m h5fs`` is the ``h5fs`` command."""

from h5fs.interpreter import leave_working_directory_out

leave_working_directory_out()

import sys  # noqa: E402

from h5fs.cli.start import main  # noqa: E402

sys.exit(main())
