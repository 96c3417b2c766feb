"""Can synthetic dermoscopy images stand in for real ones, and are they really new?"""
