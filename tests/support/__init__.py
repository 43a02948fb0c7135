"""What tests share: tiny models, servers, exact references."""
