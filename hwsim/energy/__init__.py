"""Energy: counted actions times sourced prices."""
