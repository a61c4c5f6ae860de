"""The command line. It starts servers as processes and imports none of them."""
