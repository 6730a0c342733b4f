"""What `kingpost doctor` looks at: settings, files, and what the service talks to."""
