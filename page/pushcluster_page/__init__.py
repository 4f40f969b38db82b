"""The sample page: two users' inboxes side by side, and a box to send to one of them."""
