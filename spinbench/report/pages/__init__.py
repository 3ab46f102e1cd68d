"""Pages and the files beside them, whatever they say."""
