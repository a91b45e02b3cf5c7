-- ARGV: now, version. Answers with the version of the keys, which are ours now if there were none.
call('SETNX', P .. 'version', ARGV[2])
return call('GET', P .. 'version')
