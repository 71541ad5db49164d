"""`python -m ti_qat` is `ti-qat`."""

from ti_qat.cli import main

main(prog_name="ti-qat")
