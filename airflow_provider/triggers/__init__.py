"""Triggers for what a task waits for in the CARTO Data Warehouse."""
