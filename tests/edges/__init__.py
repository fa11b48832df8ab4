"""What people and programs meet: the command line, editors, embedding, configuration."""
