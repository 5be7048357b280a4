"""How a CARTO access token is obtained with OAuth."""
