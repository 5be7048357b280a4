"""Access tokens: their times, where they are stored, and one request for everyone who needs one."""
