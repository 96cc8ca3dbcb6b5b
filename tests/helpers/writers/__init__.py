"""Programs that write a bank and are killed, interrupted or recorded."""
