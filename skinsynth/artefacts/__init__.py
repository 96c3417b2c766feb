"""What is in dermoscopic images beside the lesion: frames, rulers and hair, how often and to what effect."""
