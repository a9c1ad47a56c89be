"""Phone labels for transcribed English speech: which phone is said in every frame of 10 ms."""
