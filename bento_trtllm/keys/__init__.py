"""Who may use the service and how much: named keys, what each has used, and the log of that."""
