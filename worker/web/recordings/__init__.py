"""What is stored: users, conversations, their time lines, their audio."""
