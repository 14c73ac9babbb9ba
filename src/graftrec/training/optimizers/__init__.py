"""Update rules that torch does not have, one file each."""
