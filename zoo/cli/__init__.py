"""The command `zoo`: each module is a group of commands that parse, call the library, and print."""
