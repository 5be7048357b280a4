"""The CARTO Data Warehouse: from a CARTO access token to a BigQuery client that never sees it expire."""
