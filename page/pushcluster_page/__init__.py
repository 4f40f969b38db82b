"""The sample page: two users' inboxes side by side, and a form to send to one of them."""
