-- Makes the caller the one writer, so that whatever an earlier one sent and Redis has not run yet is refused.
--
-- KEYS 1 broker:writer  hash  owner, token, batch
-- ARGV 1 owner (one process)   2 its new token   3 '1' where it may take over from another owner
--
-- Answers the number of the last batch that this owner stored, '0' if none.
local owner = redis.call('HGET', KEYS[1], 'owner')
if owner and owner ~= ARGV[1] and ARGV[3] ~= '1' then
  return redis.error_reply('FENCED another process has taken over')
end
if owner ~= ARGV[1] then
  redis.call('HSET', KEYS[1], 'owner', ARGV[1], 'batch', '0')
end
redis.call('HSET', KEYS[1], 'token', ARGV[2])
return redis.call('HGET', KEYS[1], 'batch')
