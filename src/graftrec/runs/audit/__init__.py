"""``graftrec audit`` and ``transfer=auto``: what each source does for each target."""
