"""Where drafts come from on real models: one file each."""
