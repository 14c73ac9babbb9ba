"""How a dataset becomes domains, histories and splits; one LightningDataModule each."""
