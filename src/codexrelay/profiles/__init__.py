"""What is known of each client program, one file each. Still empty: every client is generic."""
