"""One module per dataset layout: annotations to records."""
