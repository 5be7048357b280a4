"""Triggers that wait for jobs in the CARTO Data Warehouse."""
