-- ARGV: now; then ids. Answers with the first that does not exist.
for i = 2, #ARGV do
  if call('HEXISTS', P .. 'call', ARGV[i]) == 0 then
    return ARGV[i]
  end
end
return nil
