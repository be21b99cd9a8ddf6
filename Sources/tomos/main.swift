print("tomos")
