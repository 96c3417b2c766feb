"""Who may stand on which side: patients, lesions and duplicates never stand on two."""
