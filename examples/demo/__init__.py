"""`make demo`: the examples in a real Airflow and a real Prefect, against a local CARTO."""
