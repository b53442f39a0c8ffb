"""What the product is measured against: bots that ask the same model and store nothing."""
