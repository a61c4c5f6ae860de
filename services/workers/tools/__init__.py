"""What the model may do in a workspace: each tool with its input schema, checked before anything is done."""
