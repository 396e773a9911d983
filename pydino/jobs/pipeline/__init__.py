"""A whole recipe as a job: detached from the terminal, and its status."""
