"""The three engines that serve a trace: ours, the simulator, Hugging Face."""
