"""``python -m h5fs`` is the ``h5fs`` command."""

from h5fs.system.interpreter import leave_working_directory_out

leave_working_directory_out()

from h5fs.cli.start import run  # noqa: E402

run()
