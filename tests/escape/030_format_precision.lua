-- Attack: A number with a hundred million digits.
return string.format("%.99999999f", 1)
