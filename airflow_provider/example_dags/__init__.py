"""DAGs that show what the provider is for; each runs as it is on a connection `carto_default`."""
