"""Which models are served, their students, and the directories that hold both."""
