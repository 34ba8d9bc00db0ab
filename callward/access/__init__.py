"""Access: what each role may read and write, and the rights of database users that follow from it."""
