-- ARGV: now; then key and data of each.
for i = 2, #ARGV, 2 do
  blob.put(ARGV[i], ARGV[i + 1])
end
return 0
