"""Teacher intervention: where the teacher steps in, when, and what the student is asked for."""
