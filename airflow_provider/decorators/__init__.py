"""Task decorators: functions as tasks of the CARTO Data Warehouse."""
