"""The state by hand: taken out as a file and put back, and given to what the YAML names now."""
