"""What can be loaded, read as typed Arrow batches."""
