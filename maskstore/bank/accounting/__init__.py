"""What every byte of a bank is for."""

from maskstore.bank.accounting.accounts import Account, LayerAccount, account

__all__ = ["Account", "LayerAccount", "account"]
