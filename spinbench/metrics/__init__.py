"""What a run measured: tables, metric definitions, identities and the run folder."""
