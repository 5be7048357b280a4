"""`python -m carto_auth_integrations.cli`: `carto-auth`, where scripts are not on the path."""

from . import main

if __name__ == "__main__":
    main()
