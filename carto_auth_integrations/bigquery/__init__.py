"""BigQuery with the tokens of the CARTO Data Warehouse."""
