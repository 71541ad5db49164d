"""Design-space exploration: many accelerators, the figures of each, and those that nothing beats."""
