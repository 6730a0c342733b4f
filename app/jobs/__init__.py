"""The jobs themselves, and who runs them: `kingpost worker` with Redis, the server without."""
