"""`ti-qat run`: every stage of the pipeline as a process of its own, resumable, ending in one report."""
