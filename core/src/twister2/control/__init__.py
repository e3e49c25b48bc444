"""The messages between client, master and workers, and the authenticated channel that carries them."""
