"""Example DAGs. Each runs unchanged on a connection `carto_default`."""
