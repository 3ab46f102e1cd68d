"""Reports that a person can act on: tables, figures and a terminal table, all from run folders."""
