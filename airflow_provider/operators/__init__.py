"""Operators on the CARTO Data Warehouse."""
