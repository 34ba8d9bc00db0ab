"""Evidence: certificates of destruction and what they are checked against."""
