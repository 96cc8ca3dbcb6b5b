"""What tests share: drawn masks, small networks, forged files, programs that are killed."""
