"""From a folder to a pipeline file: what is in the folder, what the machine can do, and a file that fits both."""
