"""The embedded samples; see README.md beside this file for what they are and their licences."""
