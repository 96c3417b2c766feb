"""The tables of the study, the paper's numbers beside ours."""
