"""What folding a norm's channel ranges into its readers needs: where it is legal, by how much."""
