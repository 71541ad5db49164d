"""What is learned: the tasks, how their data are read, and how they are scored."""
