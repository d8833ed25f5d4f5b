"""From coarse to fine and from short to long: stages of one sound, and windows and chunks of a longer one."""
